#pragma once

#include <optional>

#include "klein/tensor/mlx.h"

/// Products of 8-bit numbers: e4m3 with a float32 scale for every row of both sides.
namespace klein::ops::cuda {

/// A matrix in e4m3.
struct Fp8Rows {
  mx::array codes;   ///< [..., K] uint8
  mx::array scales;  ///< [rows] float32
};

/// What a lazy modulated_layer_norm is when its kernel rounds to e4m3 itself; else nothing.
std::optional<Fp8Rows> fp8_of_modulated_norm(const mx::array& normed);

/// x W^T where both sides are e4m3; x [..., K] is rounded to it by what makes it, if that can.
mx::array fp8_linear(const mx::array& x, const mx::array& codes, const mx::array& scales);

}  // namespace klein::ops::cuda
