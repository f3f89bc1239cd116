#include "klein/ops/elementwise.h"

#include <fmt/format.h>

#include "klein/core/error.h"
#include "klein/ops/cpu/native.h"
#include "klein/ops/cuda/native.h"
#include "klein/ops/dispatch.h"
#include "klein/ops/portable.h"
#include "klein/tensor/check.h"

namespace klein::ops {

mx::array silu(const mx::array& x) {
  if (use_cpu_kernels({x.dtype()})) return native::silu(x);
  return portable::silu(x);
}

mx::array levels(const mx::array& pixels) {
  if (use_cuda_kernels({pixels.dtype()})) return cuda::levels(pixels);
  return portable::levels(pixels);
}

mx::array swiglu(const mx::array& gate, const mx::array& up) {
  expect_shape(up, gate.shape(), "swiglu up");
  expect_same_dtype(gate, up, "swiglu gate and up");

  if (use_cpu_kernels({gate.dtype()})) return native::swiglu(gate, up);
  if (use_cuda_kernels({gate.dtype()})) return cuda::swiglu(gate, up);
  return portable::swiglu(gate, up);
}

mx::array swiglu(const mx::array& gate_and_up) {
  if (gate_and_up.ndim() == 0 || gate_and_up.shape(-1) % 2 != 0)
    throw Error(ErrorKind::shape,
                fmt::format("swiglu: expected an even last axis, got {}", describe(gate_and_up)));

  if (use_cpu_kernels({gate_and_up.dtype()})) return native::swiglu(gate_and_up);
  if (use_cuda_kernels({gate_and_up.dtype()})) return cuda::swiglu(gate_and_up);
  return portable::swiglu(gate_and_up);
}

mx::array add(const mx::array& x, const mx::array& y) {
  expect_shape(y, x.shape(), "sum");
  expect_same_dtype(x, y, "sum");

  if (use_cuda_kernels({x.dtype()})) return cuda::add(x, y);
  return portable::add(x, y);
}

mx::array add_gated(const mx::array& x, const mx::array& gate, const mx::array& y) {
  expect_axes(x, 3, "gated sum input");
  expect_shape(y, x.shape(), "gated sum addend");
  expect_per_row(gate, x, "gated sum gate");
  expect_same_dtype(x, gate, "gated sum input and gate");
  expect_same_dtype(x, y, "gated sum input and addend");

  if (use_cpu_kernels({x.dtype()})) return native::add_gated(x, gate, y);
  if (use_cuda_kernels({x.dtype()})) return cuda::add_gated(x, gate, y);
  return portable::add_gated(x, gate, y);
}

mx::array add_scaled(const mx::array& x, float scale, const mx::array& y) {
  expect_shape(y, x.shape(), "scaled sum addend");
  expect_same_dtype(x, y, "scaled sum input and addend");

  if (use_cpu_kernels({x.dtype()})) return native::add_scaled(x, scale, y);
  return portable::add_scaled(x, scale, y);
}

}  // namespace klein::ops
