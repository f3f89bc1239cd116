#include "klein/ops/linear.h"

#include "klein/ops/cpu/native.h"
#include "klein/ops/cuda/native.h"
#include "klein/ops/dispatch.h"
#include "klein/ops/portable.h"
#include "klein/tensor/check.h"

namespace klein::ops {

mx::array linear(const mx::array& x, const mx::array& weight,
                 const std::optional<mx::array>& bias) {
  expect_axes(weight, 2, "linear weight");
  expect_last_axis(x, weight.shape(1), "linear input");
  if (bias) expect_shape(*bias, {weight.shape(0)}, "linear bias");

  if (use_cpu_kernels({x.dtype(), weight.dtype(), bias ? bias->dtype() : x.dtype()}))
    return native::linear(x, weight, bias);
  if (use_cuda_kernels({x.dtype(), weight.dtype(), bias ? bias->dtype() : x.dtype()}))
    return cuda::linear(x, weight, bias);
  return portable::linear(x, weight, bias);
}

mx::array linear(const mx::array& x, const Weight& weight, const std::optional<mx::array>& bias) {
  if (const auto* dense = std::get_if<mx::array>(&weight)) return linear(x, *dense, bias);
  const auto& packed = std::get<PackedMatrix>(weight);
  expect_last_axis(x, packed.columns, "linear input");
  if (bias) expect_shape(*bias, {packed.rows}, "linear bias");
  if (use_cpu_kernels({x.dtype(), bias ? bias->dtype() : x.dtype()}))
    return native::linear(x, packed, bias);
  if (use_cuda_kernels({x.dtype(), bias ? bias->dtype() : x.dtype()}))
    return cuda::linear(x, packed, bias);
  return portable::linear(x, packed, bias);
}

}  // namespace klein::ops
