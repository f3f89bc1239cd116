#include "klein/ops/conv.h"

#include <fmt/format.h>

#include "klein/core/error.h"
#include "klein/ops/cpu/native.h"
#include "klein/ops/cuda/native.h"
#include "klein/ops/dispatch.h"
#include "klein/ops/portable.h"
#include "klein/tensor/check.h"

namespace klein::ops {

mx::array conv2d(const mx::array& x, const mx::array& weight, const std::optional<mx::array>& bias,
                 int stride, Padding padding) {
  expect_axes(x, 4, "convolution input");
  expect_axes(weight, 4, "convolution weight");
  expect_last_axis(x, weight.shape(3), "convolution input");
  if (bias) expect_shape(*bias, {weight.shape(0)}, "convolution bias");
  const auto [top, bottom, left, right] = padding;
  if (stride < 1 || top < 0 || bottom < 0 || left < 0 || right < 0)
    throw Error(ErrorKind::shape,
                fmt::format("convolution: expected a stride from 1 and padding from 0, got stride "
                            "{} and padding {}, {}, {}, {}",
                            stride, top, bottom, left, right));
  if (x.shape(1) + top + bottom < weight.shape(1) || x.shape(2) + left + right < weight.shape(2))
    throw Error(ErrorKind::shape,
                fmt::format("convolution: kernel {} is larger than the padded picture {}",
                            describe(weight), describe(x)));

  if (use_cpu_kernels({x.dtype(), weight.dtype(), bias ? bias->dtype() : x.dtype()}))
    return native::conv2d(x, weight, bias, stride, padding);
  if (use_cuda_kernels({x.dtype(), weight.dtype(), bias ? bias->dtype() : x.dtype()}))
    return cuda::conv2d(x, weight, bias, stride, padding);
  return portable::conv2d(x, weight, bias, stride, padding);
}

mx::array conv2d(const mx::array& x, const mx::array& weight, const std::optional<mx::array>& bias,
                 int stride, int padding) {
  return conv2d(x, weight, bias, stride, Padding{padding, padding, padding, padding});
}

mx::array upsample_nearest_2x(const mx::array& x) {
  expect_axes(x, 4, "upsampling input");

  if (use_cpu_kernels({x.dtype()})) return native::upsample_nearest_2x(x);
  if (use_cuda_kernels({x.dtype()})) return cuda::upsample_nearest_2x(x);
  return portable::upsample_nearest_2x(x);
}

}  // namespace klein::ops
