#include <algorithm>
#include <cstring>

#include "klein/ops/cpu/convert.h"
#include "klein/ops/cpu/kernel.h"
#include "klein/ops/cpu/native.h"
#include "klein/ops/cpu/onednn.h"
#include "klein/ops/portable.h"

namespace klein::ops::native {
namespace {

/// Numbers of decoded weights that are held at a time.
constexpr std::int64_t kPanelNumbers = 1 << 21;

/// A packed matrix as inputs of a kernel: its arrays in a row, and what they were.
struct Inputs {
  explicit Inputs(const PackedMatrix& matrix) : matrix_(matrix) {
    arrays_.push_back(matrix.codes);
    for (const auto* part : {&matrix.scales, &matrix.biases, &matrix.column_scales})
      if (*part) arrays_.push_back(**part);
    for (auto& a : arrays_) a = mx::contiguous(a);
    // The graph holds the arrays; what is kept here is sizes and layout.
    matrix_.codes = mx::array(0);
    for (auto* part : {&matrix_.scales, &matrix_.biases, &matrix_.column_scales})
      if (*part) *part = mx::array(0);
  }

  const std::vector<mx::array>& arrays() const { return arrays_; }

  /// The matrix again, from the evaluated arrays that begin at `first`.
  PackedMatrix matrix(const std::vector<mx::array>& in, std::size_t first) const {
    PackedMatrix m = matrix_;
    m.codes = in[first++];
    for (auto* part : {&m.scales, &m.biases, &m.column_scales})
      if (*part) *part = in[first++];
    return m;
  }

  void forget_arrays() { arrays_.clear(); }

 private:
  PackedMatrix matrix_;
  std::vector<mx::array> arrays_;
};

/// Decodes rows [begin, end) in several threads: to floats, or to the bfloat16 numbers that a dense
/// bfloat16 layer would have.
void decode_panel(const quant::PackedView& view, std::int64_t begin, std::int64_t end, float* out) {
  parallel_ranges(end - begin, view.columns * 4, [&](std::int64_t from, std::int64_t to) {
    quant::decode_rows(view, begin + from, begin + to, out + from * view.columns);
  });
}

void decode_panel(const quant::PackedView& view, std::int64_t begin, std::int64_t end, Bf16* out) {
  parallel_ranges(end - begin, view.columns * 4, [&](std::int64_t from, std::int64_t to) {
    quant::decode_rows_bf16(view, begin + from, begin + to,
                            reinterpret_cast<std::uint16_t*>(out + from * view.columns));
  });
}

struct Product {
  const quant::PackedView& weight;
  const float* bias;  // null when there is none
  std::int64_t m;

  /// Rows of the weight that are decoded at a time.
  std::int64_t panel_rows() const {
    return std::min(std::max<std::int64_t>(kPanelNumbers / weight.columns / 64 * 64, 64),
                    weight.rows);
  }

  template <typename Run>
  void for_each_panel(const Run& run) const {
    for (std::int64_t from = 0; from < weight.rows; from += panel_rows())
      run(from, std::min(panel_rows(), weight.rows - from), bias ? bias + from : nullptr);
  }
};

void multiply(const Product& p, const float* x, float* y) {
  const auto k = p.weight.columns;
  const Scratch<float> panel(static_cast<std::size_t>(p.panel_rows() * k));
  p.for_each_panel([&](std::int64_t from, std::int64_t count, const float* bias) {
    decode_panel(p.weight, from, from + count, panel.data());
    matmul({p.m, count, k, p.weight.rows, NumberKind::f32, bias != nullptr}, x, panel.data(), bias,
           y + from);
  });
}

void multiply(const Product& p, const Bf16* x, Bf16* y) {
  const auto k = p.weight.columns, n = p.weight.rows;
  const Scratch<Bf16> panel(static_cast<std::size_t>(p.panel_rows() * k));
  if (has_fast_bf16()) {
    p.for_each_panel([&](std::int64_t from, std::int64_t count, const float* bias) {
      decode_panel(p.weight, from, from + count, panel.data());
      matmul({p.m, count, k, n, NumberKind::bf16, bias != nullptr}, x, panel.data(), bias,
             y + from);
    });
    return;
  }
  const Scratch<float> wide_x(static_cast<std::size_t>(p.m * k));
  const Scratch<float> wide(static_cast<std::size_t>(p.panel_rows() * k));
  const Scratch<float> sums(static_cast<std::size_t>(p.m * p.panel_rows()));
  widen_all(x, wide_x.data(), p.m * k);
  p.for_each_panel([&](std::int64_t from, std::int64_t count, const float* bias) {
    decode_panel(p.weight, from, from + count, panel.data());
    widen_all(panel.data(), wide.data(), count * k);
    matmul({p.m, count, k, count, NumberKind::f32, bias != nullptr}, wide_x.data(), wide.data(),
           bias, sums.data());
    parallel_ranges(p.m, count * 6, [&](std::int64_t begin, std::int64_t end) {
      for (auto i = begin; i < end; ++i) narrow(sums.data() + i * count, y + i * n + from, count);
    });
  });
}

}  // namespace

mx::array linear(const mx::array& x, const PackedMatrix& weight,
                 const std::optional<mx::array>& bias) {
  auto shape = x.shape();
  shape.back() = weight.rows;
  Inputs packed(weight);
  std::vector<mx::array> inputs = {x};
  inputs.insert(inputs.end(), packed.arrays().begin(), packed.arrays().end());
  if (bias) inputs.push_back(*bias);
  packed.forget_arrays();
  const bool biased = bias.has_value();
  const auto body = [packed, biased](const std::vector<mx::array>& in, mx::array& out) {
    const Dense rows(in[0]);
    const auto b = biased ? floats_of(in.back()) : std::vector<float>();
    const auto matrix = packed.matrix(in, 1);
    with_type(out.dtype(), [&](auto type) {
      using X = decltype(type);
      const auto view = matrix.view();
      multiply(
          {view, biased ? b.data() : nullptr, static_cast<std::int64_t>(out.size()) / matrix.rows},
          rows.data<X>(), out.data<X>());
    });
  };
  const auto twin = [packed, biased](const std::vector<mx::array>& in) {
    return portable::linear(in[0], packed.matrix(in, 1),
                            biased ? std::optional(in.back()) : std::nullopt);
  };
  return cpu_kernel("packed_linear", std::move(inputs), std::move(shape), x.dtype(), body, twin);
}

mx::array unpack(const PackedMatrix& matrix, mx::Dtype dtype) {
  Inputs packed(matrix);
  auto inputs = packed.arrays();
  packed.forget_arrays();
  const auto body = [packed](const std::vector<mx::array>& in, mx::array& out) {
    const auto m = packed.matrix(in, 0);
    const auto view = m.view();
    parallel_ranges(m.rows, std::int64_t{m.columns} * 4, [&](std::int64_t begin, std::int64_t end) {
      if (out.dtype() == mx::float32) {
        quant::decode_rows(view, begin, end, out.data<float>() + begin * m.columns);
        return;
      }
      quant::decode_rows_bf16(
          view, begin, end, reinterpret_cast<std::uint16_t*>(out.data<Bf16>() + begin * m.columns));
    });
  };
  const auto twin = [packed, dtype](const std::vector<mx::array>& in) {
    return portable::unpack(packed.matrix(in, 0), dtype);
  };
  return cpu_kernel("unpack", std::move(inputs), {matrix.rows, matrix.columns}, dtype, body, twin);
}

}  // namespace klein::ops::native
