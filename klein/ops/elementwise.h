#pragma once

#include "klein/tensor/mlx.h"

namespace klein::ops {

/// x * sigmoid(x).
///
/// Dtype    that of x; float32 inside, one rounding
mx::array silu(const mx::array& x);

/// silu(gate) * up.
///
/// Shapes   gate and up of one shape -> the same
/// Dtype    that of gate and up; silu rounds, then the product rounds
/// Errors   Error(shape) when the shapes or dtypes differ
mx::array swiglu(const mx::array& gate, const mx::array& up);

/// swiglu of the two halves of the last axis, gate first.
///
/// Shapes   gate_and_up [..., 2 F] -> [..., F]
/// Dtype    that of gate_and_up
/// Errors   Error(shape) when the last axis is odd
mx::array swiglu(const mx::array& gate_and_up);

/// x + y.
///
/// Shapes   x and y of one shape -> the same
/// Dtype    that of x
/// Errors   Error(shape) when the shapes or dtypes differ
mx::array add(const mx::array& x, const mx::array& y);

/// x + gate * y, one gate per batch row and channel.
///
/// Shapes   x and y [B, L, C]; gate [B, C] or [B, 1, C] -> [B, L, C]
/// Dtype    that of x; the product rounds, then the sum rounds
/// Errors   Error(shape) when the shapes or dtypes do not fit together
mx::array add_gated(const mx::array& x, const mx::array& gate, const mx::array& y);

/// Pixels of about [-1, 1] as levels of 8 bits.
///
/// Dtype    halved, shifted and clamped to [0, 1] in the dtype of `pixels`, then rounded half to
///          even to uint8
mx::array levels(const mx::array& pixels);

/// x + scale * y.
///
/// Shapes   x and y of one shape -> the same
/// Dtype    that of x; the scale keeps its digits, the product rounds, then the sum rounds
/// Errors   Error(shape) when the shapes or dtypes differ
mx::array add_scaled(const mx::array& x, float scale, const mx::array& y);

}  // namespace klein::ops
