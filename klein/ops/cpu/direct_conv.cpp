#include "klein/ops/cpu/direct_conv.h"

#include <algorithm>
#include <vector>

#include "klein/ops/cpu/convert.h"
#include "klein/ops/cpu/kernel.h"
#include "klein/ops/cpu/tile.h"

namespace klein::ops::native {
namespace {

/// Numbers of a row of weights that are multiplied at once: a block of them fits the first cache.
constexpr std::int64_t kSteps = 256;

/// Floats of unpacked input rows that one task holds.
constexpr std::int64_t kTaskFloats = 1 << 18;

/// A few filters whose sums fill one to three registers.
struct Panel {
  std::int64_t first;  // filter
  int parts;           // registers
};

std::vector<Panel> make_panels(std::int64_t filters) {
  const auto lanes = std::int64_t{tile().lanes};
  const auto parts = (filters + lanes - 1) / lanes;
  const auto count = (parts + kMostParts - 1) / kMostParts;
  std::vector<Panel> panels;
  for (std::int64_t i = 0; i < count; ++i) {
    const auto begin = parts * i / count, end = parts * (i + 1) / count;
    panels.push_back({begin * lanes, static_cast<int>(end - begin)});
  }
  return panels;
}

/// Weights of all panels, one after the other: [kH * kW * I, parts * lanes], zeros past the last
/// filter. The panel of filter f begins at f * kH * kW * I.
Scratch<float> pack(const ConvolutionSizes& s, const float* w, const std::vector<Panel>& panels) {
  const auto length = s.kernel_height * s.kernel_width * s.channels;
  const auto columns = panels.back().first + panels.back().parts * tile().lanes;
  Scratch<float> packed(static_cast<std::size_t>(columns * length));
  for (const auto& [first, parts] : panels) {
    const std::int64_t width = parts * tile().lanes, start = first;
    parallel_ranges(length, width * 8, [&](std::int64_t begin, std::int64_t end) {
      float* to = packed.data() + start * length + begin * width;
      for (auto k = begin; k < end; ++k)
        for (std::int64_t j = start; j < start + width; ++j)
          *to++ = j < s.filters ? w[j * length + k] : 0.0f;
    });
  }
  return packed;
}

void unpack(const float* in, float* out, std::int64_t count) {
  std::copy_n(in, count, out);
}
void unpack(const Bf16* in, float* out, std::int64_t count) {
  widen(in, out, count);
}

/// A few rows of the output, for all filters.
template <typename T>
struct PictureRows {
  const ConvolutionSizes& s;
  const T* x;
  const float* packed;
  const std::vector<Panel>& panels;
  const float* bias;
  T* y;
  std::int64_t rows_per_task;

  std::int64_t padded_width() const { return s.width + s.left + s.right; }
  std::int64_t input_rows() const { return (rows_per_task - 1) * s.stride + s.kernel_height; }
  std::int64_t tasks_per_picture() const {
    return (s.out_height() + rows_per_task - 1) / rows_per_task;
  }

  void run(std::int64_t task, float* input, float* sums) const {
    const auto picture = task / tasks_per_picture();
    const auto first = task % tasks_per_picture() * rows_per_task;
    const auto rows = std::min(rows_per_task, s.out_height() - first);
    load(picture, first * s.stride - s.top, (rows - 1) * s.stride + s.kernel_height, input);
    for (const auto& panel : panels) {
      sum(panel, rows, input, sums);
      store(picture, first, rows, panel, sums);
    }
  }

  /// Rows first..first + count of a picture with its padding, as float32.
  void load(std::int64_t picture, std::int64_t first, std::int64_t count, float* input) const {
    const auto length = padded_width() * s.channels;
    for (std::int64_t i = 0; i < count; ++i, input += length) {
      const auto row = first + i;
      if (row < 0 || row >= s.height) {
        std::fill_n(input, length, 0.0f);
        continue;
      }
      const auto before = s.left * s.channels, inside = s.width * s.channels;
      std::fill_n(input, before, 0.0f);
      unpack(x + (picture * s.height + row) * inside, input + before, inside);
      std::fill_n(input + before + inside, s.right * s.channels, 0.0f);
    }
  }

  /// One panel of filters over all pixels: [rows, W', columns].
  void sum(const Panel& panel, std::int64_t rows, const float* input, float* sums) const {
    const std::int64_t columns = panel.parts * tile().lanes;
    const auto run_length = s.kernel_width * s.channels;
    const float* weights = packed + panel.first * s.kernel_height * run_length;
    for (std::int64_t kernel_row = 0; kernel_row < s.kernel_height; ++kernel_row)
      for (std::int64_t k = 0; k < run_length; k += kSteps) {
        const auto steps = std::min(kSteps, run_length - k);
        for (std::int64_t row = 0; row < rows; ++row) {
          const float* pixels =
              input + (row * s.stride + kernel_row) * padded_width() * s.channels + k;
          tile().multiply({pixels, s.stride * s.channels, 1, static_cast<int>(s.out_width()),
                           static_cast<int>(steps), panel.parts,
                           weights + (kernel_row * run_length + k) * columns,
                           sums + row * s.out_width() * columns, kernel_row + k > 0});
        }
      }
  }

  void store(std::int64_t picture, std::int64_t first, std::int64_t rows, const Panel& panel,
             const float* sums) const {
    const std::int64_t columns = panel.parts * tile().lanes, from = panel.first;
    const auto wanted = std::min(columns, s.filters - from);
    T* to = y + (picture * s.out_height() + first) * s.out_width() * s.filters + from;
    for (std::int64_t i = 0; i < rows * s.out_width(); ++i, to += s.filters, sums += columns)
      for (std::int64_t j = 0; j < wanted; ++j)
        to[j] = round_to<T>(bias ? sums[j] + bias[from + j] : sums[j]);
  }
};

}  // namespace

template <typename T>
void direct_convolution(const ConvolutionSizes& sizes, const T* x, const float* w,
                        const float* bias, T* y) {
  const auto panels = make_panels(sizes.filters);
  const auto packed = pack(sizes, w, panels);
  PictureRows<T> rows{sizes, x, packed.data(), panels, bias, y, 1};
  const auto row_floats = rows.padded_width() * sizes.channels * sizes.stride;
  // Few enough rows for the cache, and enough tasks for every thread.
  rows.rows_per_task = std::clamp<std::int64_t>(
      std::min(kTaskFloats / row_floats, sizes.batch * sizes.out_height() / (3 * thread_count())),
      1, sizes.out_height());

  const auto tasks = sizes.batch * rows.tasks_per_picture();
  const auto threads = std::min<std::int64_t>(thread_count(), tasks);
  const auto input = rows.input_rows() * rows.padded_width() * sizes.channels;
  const auto sums = (rows.rows_per_task * sizes.out_width() * tile().columns() + 15) / 16 * 16;
  const Scratch<float> inputs(static_cast<std::size_t>(threads * input));
  const Scratch<float> totals(static_cast<std::size_t>(threads * sums));
  parallel_tasks(tasks, [&](std::int64_t task, int thread) {
    rows.run(task, inputs.data() + thread * input, totals.data() + thread * sums);
  });
}

template void direct_convolution(const ConvolutionSizes&, const float*, const float*, const float*,
                                 float*);
template void direct_convolution(const ConvolutionSizes&, const Bf16*, const float*, const float*,
                                 Bf16*);

}  // namespace klein::ops::native
