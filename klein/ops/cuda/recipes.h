#pragma once

#include <cstddef>
#include <vector>

#include "klein/tensor/mlx.h"

/// What arrays that nobody has computed yet are, for operations that can do more in one kernel:
/// see recipe_of.
namespace klein::ops::cuda {

/// Inputs x [..., K] and weight [N, K], both bfloat16, without a bias.
struct LinearRecipe {};

/// Heads that are normed and rotated, the tokens of one or several parts behind each other: inputs
/// x [B, L, H, D], weight, cosines, sines of each part.
struct NormRopeRecipe {
  std::vector<float> eps;  ///< Of each part.

  static constexpr std::size_t kInputs = 4;  ///< Of a part.

  std::size_t input_count() const { return eps.size() * kInputs; }
};

/// upsample_nearest_2x: input x.
struct UpsampleRecipe {};

/// Inputs x, scale and shift [B, 1, C].
struct ModulatedNormRecipe {
  float eps;
};

/// silu(gate) * up: inputs gate and up.
struct SwigluRecipe {};

/// An array beside silu(gate) * up: inputs that array, gate and up.
struct JoinedSwigluRecipe {};

/// x W^T with a weight in e4m3.
struct Fp8LinearRecipe {
  mx::array x;       ///< [..., K] bfloat16
  mx::array codes;   ///< [N, K]
  mx::array scales;  ///< [N, 1]
};

/// By the kernel for Hopper and without a mask: inputs q, k, v, or what q is made of, what k is
/// made of, and v.
struct AttentionRecipe {
  float scale;
  NormRopeRecipe q, k;  ///< Without parts where q and k are inputs.
};

/// silu(x gate^T) * (x up^T): inputs x [..., K], gate and up [F, K].
struct SwigluProductRecipe {};

}  // namespace klein::ops::cuda
