#pragma once

#include <vector>

#include "klein/tensor/mlx.h"

/// Several operations in kernels that write into one result.
namespace klein::ops::cuda {

/// Arrays of NormRopeRecipe behind each other along the tokens.
mx::array joined_norm_rope(const std::vector<mx::array>& parts);

/// An array [B, L, n] beside one of SwigluRecipe, along the last axis.
mx::array joined_swiglu(const mx::array& left, const mx::array& gated);

/// The array of AttentionRecipe that `flat` is, or is with its heads made one axis; else null.
const mx::array* attention_of(const mx::array& flat);

/// Arrays of AttentionRecipe and of SwigluProductRecipe beside each other.
mx::array joined_attention_swiglu(const mx::array& seen, const mx::array& gated);

}  // namespace klein::ops::cuda
