#pragma once

#include "klein/tensor/mlx.h"

namespace klein::ops {

/// x / sqrt(mean(x^2) + eps) * weight over the last axis.
///
/// Shapes   x [..., C], weight [C] -> [..., C]
/// Dtype    that of x; float32 inside, the weight's multiply too, one rounding
/// Errors   Error(shape) when weight is not [C]
/// Source   torch.nn.RMSNorm, as FLUX.2's q and k norms use it
mx::array rms_norm(const mx::array& x, const mx::array& weight, float eps);

/// RMS norm that rounds to the dtype of x before the weight's multiply, which rounds again.
///
/// Shapes   x [..., C], weight [C] -> [..., C]
/// Dtype    that of x; in float32 the same as rms_norm
/// Errors   Error(shape) when weight is not [C]
/// Source   transformers Qwen3RMSNorm
mx::array rms_norm_rounded_twice(const mx::array& x, const mx::array& weight, float eps);

/// LayerNorm(x) * (1 + scale) + shift over the last axis, the norm having no weights of its own.
///
/// Shapes   x [B, L, C]; scale and shift [B, C] or [B, 1, C] -> [B, L, C]
/// Dtype    that of x; the norm in float32, rounded; then 1 + scale, product and sum round each
/// Errors   Error(shape) when the shapes do not fit together
/// Source   diffusers Flux2 blocks; AdaLayerNormContinuous
mx::array modulated_layer_norm(const mx::array& x, const mx::array& scale, const mx::array& shift,
                               float eps);

/// GroupNorm over channels-last pictures, with SiLU on top where `silu` is set.
///
/// Shapes   x [B, H, W, C], weight and bias [C] -> [B, H, W, C]
/// Dtype    that of x; float32 statistics, rounded after the norm and again after the SiLU
/// Errors   Error(shape) when C is no multiple of groups or weight or bias are not [C]
/// Source   torch.nn.GroupNorm, torch.nn.SiLU
mx::array group_norm(const mx::array& x, const mx::array& weight, const mx::array& bias, int groups,
                     float eps, bool silu);

/// Mean and variance of every group of channels, over all pixels of a picture.
///
/// Shapes   x [B, H, W, C] -> [B, groups, 2]: mean, variance
/// Dtype    float32
/// Errors   Error(shape) when C is no multiple of groups
mx::array group_moments(const mx::array& x, int groups);

/// GroupNorm with statistics from elsewhere: those of the picture that x is a part of.
///
/// Shapes   x [B, H, W, C], moments [B, groups, 2], weight and bias [C] -> [B, H, W, C]
/// Dtype    as group_norm, which this is with the moments of x itself
/// Errors   as group_norm; Error(shape) when moments are not [B, groups, 2] float32
mx::array group_norm_with(const mx::array& x, const mx::array& moments, const mx::array& weight,
                          const mx::array& bias, float eps, bool silu);

}  // namespace klein::ops
