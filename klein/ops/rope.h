#pragma once

#include "klein/tensor/mlx.h"

namespace klein::ops {

/// Rotates the adjacent pairs (2j, 2j+1) of every head by the angles of its token.
///
/// Shapes   x [B, L, H, D]; cosines and sines [L, D/2] float32 -> [B, L, H, D]
/// Dtype    that of x; float32 inside, one rounding
/// Errors   Error(shape) when the tables do not fit x
/// Source   diffusers apply_rotary_emb with use_real_unbind_dim -1, as FLUX.2 uses it
mx::array rope_interleaved(const mx::array& x, const mx::array& cosines, const mx::array& sines);

/// Rotates the pairs (j, j + D/2) of every head by the angles of its token.
///
/// Shapes   x [B, L, H, D]; cosines and sines [L, D/2] in the dtype of x -> [B, L, H, D]
/// Dtype    that of x; each product and the sum round
/// Errors   Error(shape) when the tables do not fit x or have another dtype
/// Source   transformers modeling_qwen3, apply_rotary_pos_emb
mx::array rope_half(const mx::array& x, const mx::array& cosines, const mx::array& sines);

/// rope_interleaved(rms_norm(x, weight, eps), cosines, sines) in one pass, equal to it in every bit
/// of rounding: the normed values round to the dtype of x before they are rotated.
///
/// Shapes   x [B, L, H, D], weight [D]; cosines and sines [L, D/2] float32 -> [B, L, H, D]
/// Dtype    that of x
/// Errors   Error(shape) when weight or tables do not fit x
mx::array rms_norm_rope_interleaved(const mx::array& x, const mx::array& weight, float eps,
                                    const mx::array& cosines, const mx::array& sines);

/// rope_half(rms_norm_rounded_twice(x, weight, eps), cosines, sines), in one pass on a GPU.
///
/// Shapes   x [B, L, H, D], weight [D]; cosines and sines [L, D/2] -> [B, L, H, D]
/// Dtype    that of x, which the tables share
/// Errors   Error(shape) when weight or tables do not fit x
mx::array rms_norm_rope_half(const mx::array& x, const mx::array& weight, float eps,
                             const mx::array& cosines, const mx::array& sines);

}  // namespace klein::ops
