#pragma once

#include <optional>

#include "klein/ops/weight.h"
#include "klein/tensor/mlx.h"

namespace klein::ops {

/// x W^T + b.
///
/// Shapes   x [..., K], weight [N, K], bias [N] -> [..., N]
/// Dtype    that of x; sums in float32, the bias is added before the one rounding; weights may have
///          another dtype than x (bfloat16 weights of a mapped file under float32 activations)
/// Errors   Error(shape) when the sizes do not fit together
/// Source   torch.nn.functional.linear
mx::array linear(const mx::array& x, const mx::array& weight,
                 const std::optional<mx::array>& bias = std::nullopt);

/// The same with a weight that may be packed; what a packed one decodes to is rounded to bfloat16
/// where x is bfloat16.
mx::array linear(const mx::array& x, const Weight& weight,
                 const std::optional<mx::array>& bias = std::nullopt);

}  // namespace klein::ops
