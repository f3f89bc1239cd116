#include <algorithm>
#include <cstring>

#include "klein/ops/cpu/convert.h"
#include "klein/ops/cpu/kernel.h"
#include "klein/ops/cpu/native.h"
#include "klein/ops/cpu/onednn.h"
#include "klein/ops/portable.h"

namespace klein::ops::native {
namespace {

/// Floats of unpacked picture that are held at a time.
constexpr std::int64_t kStripeFloats = 1 << 22;

/// Rows `from`..`to` of the output as a convolution of its own, and the first input row it reads.
struct Stripe {
  ConvolutionSizes sizes;
  std::int64_t first_row;
};

Stripe cut(const ConvolutionSizes& whole, std::int64_t from, std::int64_t to) {
  Stripe stripe{whole, 0};
  const auto begin = from * whole.stride - whole.top;
  const auto end = (to - 1) * whole.stride - whole.top + whole.kernel_height;
  stripe.first_row = std::clamp<std::int64_t>(begin, 0, whole.height);
  const auto last_row = std::clamp<std::int64_t>(end, stripe.first_row, whole.height);
  stripe.sizes.batch = 1;
  stripe.sizes.height = last_row - stripe.first_row;
  stripe.sizes.top = stripe.first_row - begin;
  stripe.sizes.bottom = end - last_row;
  return stripe;
}

/// A bfloat16 picture on a processor that multiplies float32: unpacked stripe by stripe.
void convolve_stripes(const ConvolutionSizes& whole, const Bf16* x, const float* w,
                      const float* bias, Bf16* y) {
  const auto in_row = whole.width * whole.channels, out_row = whole.out_width() * whole.filters;
  const auto rows = std::clamp<std::int64_t>(
      kStripeFloats / std::max(in_row * whole.stride, out_row), 1, whole.out_height());
  const auto most_in = (rows - 1) * whole.stride + whole.kernel_height;
  const Scratch<float> in(static_cast<std::size_t>(std::min(most_in, whole.height) * in_row));
  const Scratch<float> out(static_cast<std::size_t>(rows * out_row));
  for (std::int64_t b = 0; b < whole.batch; ++b)
    for (std::int64_t from = 0; from < whole.out_height(); from += rows) {
      const auto to = std::min(from + rows, whole.out_height());
      const auto [sizes, first_row] = cut(whole, from, to);
      widen_all(x + (b * whole.height + first_row) * in_row, in.data(), sizes.height * in_row);
      convolution(sizes, in.data(), w, bias, out.data());
      narrow_all(out.data(), y + (b * whole.out_height() + from) * out_row, (to - from) * out_row);
    }
}

void run_conv2d(const std::vector<mx::array>& in, mx::array& out, int stride, Padding padding) {
  const Dense x(in[0]);
  const auto bias = in.size() > 2 ? floats_of(in[2]) : std::vector<float>();
  const float* offsets = bias.empty() ? nullptr : bias.data();
  const auto &xs = in[0].shape(), &ws = in[1].shape();
  ConvolutionSizes sizes = {xs[0],           xs[1],
                            xs[2],           xs[3],
                            ws[0],           ws[1],
                            ws[2],           stride,
                            padding.top,     padding.bottom,
                            padding.left,    padding.right,
                            NumberKind::f32, offsets != nullptr};
  if (out.dtype() == mx::bfloat16 && in[1].dtype() == mx::bfloat16 && has_fast_bf16()) {
    sizes.kind = NumberKind::bf16;
    const Dense w(in[1]);
    return convolution(sizes, x.data<void>(), w.data<void>(), offsets, out.data<void>());
  }
  const auto w = floats_of(in[1]);
  if (out.dtype() == mx::float32)
    return convolution(sizes, x.data<void>(), w.data(), offsets, out.data<void>());
  convolve_stripes(sizes, x.data<Bf16>(), w.data(), offsets, out.data<Bf16>());
}

}  // namespace

mx::array conv2d(const mx::array& x, const mx::array& weight, const std::optional<mx::array>& bias,
                 int stride, Padding padding) {
  const auto [top, bottom, left, right] = padding;
  const mx::Shape shape = {x.shape(0), (x.shape(1) + top + bottom - weight.shape(1)) / stride + 1,
                           (x.shape(2) + left + right - weight.shape(2)) / stride + 1,
                           weight.shape(0)};
  std::vector<mx::array> inputs = {x, weight};
  if (bias) inputs.push_back(*bias);
  const auto body = [stride, padding](const std::vector<mx::array>& in, mx::array& out) {
    run_conv2d(in, out, stride, padding);
  };
  const auto twin = [stride, padding](const std::vector<mx::array>& in) {
    return portable::conv2d(in[0], in[1], in.size() > 2 ? std::optional(in[2]) : std::nullopt,
                            stride, padding);
  };
  return cpu_kernel("conv2d", std::move(inputs), shape, x.dtype(), body, twin);
}

mx::array upsample_nearest_2x(const mx::array& x) {
  const auto body = [](const std::vector<mx::array>& in, mx::array& out) {
    const Dense from(in[0]);
    const std::int64_t rows = std::int64_t{in[0].shape(0)} * in[0].shape(1);
    const std::int64_t width = in[0].shape(2);
    const auto pixel = static_cast<std::int64_t>(in[0].itemsize()) * in[0].shape(3);
    const auto* source = from.data<std::byte>();
    auto* target = out.data<std::byte>();
    parallel_ranges(rows, width * pixel * 5, [&](std::int64_t begin, std::int64_t end) {
      const auto bytes = static_cast<std::size_t>(pixel);
      for (auto i = begin; i < end; ++i) {
        auto* to = target + i * width * pixel * 4;
        for (std::int64_t j = 0; j < width * 2; ++j)
          std::memcpy(to + j * pixel, source + (i * width + j / 2) * pixel, bytes);
        std::memcpy(to + width * pixel * 2, to, bytes * 2 * static_cast<std::size_t>(width));
      }
    });
  };
  const auto twin = [](const std::vector<mx::array>& in) {
    return portable::upsample_nearest_2x(in[0]);
  };
  const mx::Shape shape = {x.shape(0), 2 * x.shape(1), 2 * x.shape(2), x.shape(3)};
  return cpu_kernel("upsample_nearest_2x", {x}, shape, x.dtype(), body, twin);
}

}  // namespace klein::ops::native
