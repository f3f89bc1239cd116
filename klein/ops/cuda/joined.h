#pragma once

#include <span>
#include <utility>
#include <vector>

#include "klein/ops/cuda/kernel.h"
#include "klein/ops/cuda/recipes.h"
#include "klein/tensor/mlx.h"

/// Several operations in kernels that write into one result.
namespace klein::ops::cuda {

/// Arrays of NormRopeRecipe behind each other along the tokens.
mx::array joined_norm_rope(const std::vector<mx::array>& parts);

/// Whether q and k are of NormRopeRecipe, part by part with the same angles.
bool turn_alike(const mx::array& q, const mx::array& k);

/// Puts what computes both into the stream; `in` are the inputs of q, then those of k.
std::pair<mx::array, mx::array> launch_norm_rope_pair(Launcher& launcher, const NormRopeRecipe& q,
                                                      const NormRopeRecipe& k,
                                                      std::span<const mx::array> in);

/// What an array of this recipe is, in MLX's own operations.
mx::array portable_norm_rope(const NormRopeRecipe& recipe, std::span<const mx::array> in);

/// An array [B, L, n] beside one of SwigluRecipe, along the last axis.
mx::array joined_swiglu(const mx::array& left, const mx::array& gated);

/// The array of AttentionRecipe that `flat` is, or is with its heads made one axis; else null.
const mx::array* attention_of(const mx::array& flat);

/// Arrays of AttentionRecipe and of SwigluProductRecipe beside each other.
mx::array joined_attention_swiglu(const mx::array& seen, const mx::array& gated);

}  // namespace klein::ops::cuda
