#include "klein/ops/norm.h"

#include <fmt/format.h>

#include "klein/core/error.h"
#include "klein/ops/cpu/native.h"
#include "klein/ops/dispatch.h"
#include "klein/ops/portable.h"
#include "klein/tensor/check.h"

namespace klein::ops {

mx::array rms_norm(const mx::array& x, const mx::array& weight, float eps) {
  expect_axes(weight, 1, "RMS norm weight");
  expect_last_axis(x, weight.shape(0), "RMS norm input");

  if (use_cpu_kernels({x.dtype(), weight.dtype()})) return native::rms_norm(x, weight, eps);
  return portable::rms_norm(x, weight, eps);
}

mx::array rms_norm_rounded_twice(const mx::array& x, const mx::array& weight, float eps) {
  expect_axes(weight, 1, "RMS norm weight");
  expect_last_axis(x, weight.shape(0), "RMS norm input");

  if (use_cpu_kernels({x.dtype(), weight.dtype()}))
    return native::rms_norm_rounded_twice(x, weight, eps);
  return portable::rms_norm_rounded_twice(x, weight, eps);
}

mx::array modulated_layer_norm(const mx::array& x, const mx::array& scale, const mx::array& shift,
                               float eps) {
  expect_axes(x, 3, "modulated layer norm input");
  expect_per_row(scale, x, "modulated layer norm scale");
  expect_per_row(shift, x, "modulated layer norm shift");
  expect_same_dtype(x, scale, "modulated layer norm input and scale");
  expect_same_dtype(x, shift, "modulated layer norm input and shift");

  if (use_cpu_kernels({x.dtype()})) return native::modulated_layer_norm(x, scale, shift, eps);
  return portable::modulated_layer_norm(x, scale, shift, eps);
}

mx::array group_norm(const mx::array& x, const mx::array& weight, const mx::array& bias, int groups,
                     float eps, bool silu) {
  expect_axes(x, 4, "group norm input");
  const int channels = x.shape(3);
  if (groups < 1 || channels % groups != 0)
    throw Error(
        ErrorKind::shape,
        fmt::format("group norm: {} channels do not divide into {} groups", channels, groups));
  expect_shape(weight, {channels}, "group norm weight");
  expect_shape(bias, {channels}, "group norm bias");

  if (use_cpu_kernels({x.dtype(), weight.dtype(), bias.dtype()}))
    return native::group_norm(x, weight, bias, groups, eps, silu);
  return portable::group_norm(x, weight, bias, groups, eps, silu);
}

}  // namespace klein::ops
