#pragma once

#include "klein/models/flux2/config.h"
#include "klein/tensor/mlx.h"

/// What the machine gives to the work that a model is made of.
///
/// Thread   device thread only
namespace klein {

/// Speed of the widest product of the transformer, x [tokens, dim] by [9 dim, dim] at Klein's mlp
/// ratio: what the machine gives to a step that is nothing but such products.
double gemm_flops_per_sec(const flux2::TransformerConfig& config, int tokens, mx::Dtype dtype);

/// The time that the matrix products and attentions of a step take, back to back and nothing
/// between them, over 1.5 seconds of them at least: as hot as a GPU gets in a step.
double step_floor_secs(const flux2::TransformerConfig& config, int text, int image,
                       mx::Dtype dtype);

}  // namespace klein
