#include "klein/ops/norm.h"

#include <fmt/format.h>

#include "klein/core/error.h"
#include "klein/ops/cpu/native.h"
#include "klein/ops/cuda/native.h"
#include "klein/ops/dispatch.h"
#include "klein/ops/portable.h"
#include "klein/tensor/check.h"

namespace klein::ops {
namespace {

void expect_groups(const mx::array& x, int groups) {
  expect_axes(x, 4, "group norm input");
  const int channels = x.shape(3);
  if (groups < 1 || channels % groups != 0)
    throw Error(
        ErrorKind::shape,
        fmt::format("group norm: {} channels do not divide into {} groups", channels, groups));
}

}  // namespace

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
  if (use_cuda_kernels({x.dtype(), weight.dtype()}))
    return cuda::rms_norm_rounded_twice(x, weight, eps);
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
  if (use_cuda_kernels({x.dtype()})) return cuda::modulated_layer_norm(x, scale, shift, eps);
  return portable::modulated_layer_norm(x, scale, shift, eps);
}

mx::array group_norm(const mx::array& x, const mx::array& weight, const mx::array& bias, int groups,
                     float eps, bool silu) {
  expect_groups(x, groups);
  expect_shape(weight, {x.shape(3)}, "group norm weight");
  expect_shape(bias, {x.shape(3)}, "group norm bias");

  if (use_cpu_kernels({x.dtype(), weight.dtype(), bias.dtype()}))
    return native::group_norm(x, weight, bias, groups, eps, silu);
  if (use_cuda_kernels({x.dtype(), weight.dtype(), bias.dtype()}))
    return cuda::group_norm(x, weight, bias, groups, eps, silu);
  return portable::group_norm(x, weight, bias, groups, eps, silu);
}

mx::array group_moments(const mx::array& x, int groups) {
  expect_groups(x, groups);

  if (use_cpu_kernels({x.dtype()})) return native::group_moments(x, groups);
  if (use_cuda_kernels({x.dtype()})) return cuda::group_moments(x, groups);
  return portable::group_moments(x, groups);
}

mx::array group_norm_with(const mx::array& x, const mx::array& moments, const mx::array& weight,
                          const mx::array& bias, float eps, bool silu) {
  expect_axes(moments, 3, "group norm moments");
  expect_groups(x, moments.shape(1));
  expect_shape(moments, {x.shape(0), moments.shape(1), 2}, "group norm moments");
  if (moments.dtype() != mx::float32)
    throw Error(ErrorKind::shape,
                fmt::format("group norm moments: expected float32, got {}", describe(moments)));
  expect_shape(weight, {x.shape(3)}, "group norm weight");
  expect_shape(bias, {x.shape(3)}, "group norm bias");

  if (use_cpu_kernels({x.dtype(), weight.dtype(), bias.dtype()}))
    return native::group_norm_with(x, moments, weight, bias, eps, silu);
  if (use_cuda_kernels({x.dtype(), weight.dtype(), bias.dtype()}))
    return cuda::group_norm_with(x, moments, weight, bias, eps, silu);
  return portable::group_norm_with(x, moments, weight, bias, eps, silu);
}

}  // namespace klein::ops
