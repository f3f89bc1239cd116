#include <cstring>

#include "klein/ops/cpu/direct_conv.h"
#include "klein/ops/cpu/kernel.h"
#include "klein/ops/cpu/native.h"
#include "klein/ops/cpu/onednn.h"
#include "klein/ops/portable.h"

namespace klein::ops::native {
namespace {

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
  with_type(out.dtype(), [&](auto type) {
    using T = decltype(type);
    direct_convolution(sizes, x.data<T>(), w.data(), offsets, out.data<T>());
  });
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
