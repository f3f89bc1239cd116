#include "klein/ops/rope.h"

#include <fmt/format.h>

#include "klein/core/error.h"
#include "klein/ops/cpu/native.h"
#include "klein/ops/cuda/native.h"
#include "klein/ops/dispatch.h"
#include "klein/ops/norm.h"
#include "klein/ops/portable.h"
#include "klein/tensor/check.h"

namespace klein::ops {
namespace {

void expect_tables(const mx::array& x, const mx::array& cosines, const mx::array& sines) {
  expect_axes(x, 4, "rotary embedding input");
  if (x.shape(3) % 2 != 0)
    throw Error(
        ErrorKind::shape,
        fmt::format("rotary embedding input: expected an even last axis, got {}", describe(x)));
  expect_shape(cosines, {x.shape(1), x.shape(3) / 2}, "rotary cosines");
  expect_shape(sines, cosines.shape(), "rotary sines");
}

void expect_float32(const mx::array& table, std::string_view what) {
  if (table.dtype() != mx::float32)
    throw Error(ErrorKind::shape,
                fmt::format("{}: expected float32, got {}", what, describe(table)));
}

}  // namespace

mx::array rope_interleaved(const mx::array& x, const mx::array& cosines, const mx::array& sines) {
  expect_tables(x, cosines, sines);
  expect_float32(cosines, "rotary cosines");
  expect_float32(sines, "rotary sines");

  if (use_cpu_kernels({x.dtype()})) return native::rope_interleaved(x, cosines, sines);
  return portable::rope_interleaved(x, cosines, sines);
}

mx::array rope_half(const mx::array& x, const mx::array& cosines, const mx::array& sines) {
  expect_tables(x, cosines, sines);
  expect_same_dtype(x, cosines, "rotary embedding input and cosines");
  expect_same_dtype(x, sines, "rotary embedding input and sines");

  if (use_cpu_kernels({x.dtype()})) return native::rope_half(x, cosines, sines);
  return portable::rope_half(x, cosines, sines);
}

mx::array rms_norm_rope_interleaved(const mx::array& x, const mx::array& weight, float eps,
                                    const mx::array& cosines, const mx::array& sines) {
  expect_tables(x, cosines, sines);
  expect_float32(cosines, "rotary cosines");
  expect_float32(sines, "rotary sines");
  expect_shape(weight, {x.shape(3)}, "RMS norm weight");

  if (use_cpu_kernels({x.dtype(), weight.dtype()}))
    return native::rms_norm_rope_interleaved(x, weight, eps, cosines, sines);
  if (use_cuda_kernels({x.dtype(), weight.dtype()}))
    return cuda::rms_norm_rope_interleaved(x, weight, eps, cosines, sines);
  return portable::rms_norm_rope_interleaved(x, weight, eps, cosines, sines);
}

mx::array rms_norm_rope_half(const mx::array& x, const mx::array& weight, float eps,
                             const mx::array& cosines, const mx::array& sines) {
  expect_tables(x, cosines, sines);
  expect_same_dtype(x, cosines, "rotary embedding input and cosines");
  expect_same_dtype(x, sines, "rotary embedding input and sines");
  expect_shape(weight, {x.shape(3)}, "RMS norm weight");

  if (use_cuda_kernels({x.dtype(), weight.dtype()}))
    return cuda::rms_norm_rope_half(x, weight, eps, cosines, sines);
  return rope_half(rms_norm_rounded_twice(x, weight, eps), cosines, sines);
}

}  // namespace klein::ops
