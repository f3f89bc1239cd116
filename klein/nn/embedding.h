#pragma once

#include "klein/nn/linear.h"
#include "klein/nn/module.h"
#include "klein/tensor/mlx.h"

namespace klein::nn {

/// [cos(t f_i) | sin(t f_i)] with f_i = 10000^(-i / (channels / 2)), the cosines first.
///
/// Shapes   timesteps [B], about 0 to 1000 -> [B, channels]
/// Dtype    computed and returned in float32
/// Source   diffusers embeddings.py, get_timestep_embedding with flip_sin_to_cos
mx::array sinusoidal_embedding(const mx::array& timesteps, int channels);

/// linear_2(silu(linear_1(x))), without biases.
///
/// Source   diffusers embeddings.py, TimestepEmbedding
struct TimestepEmbedder {
  TimestepEmbedder(int channels, int dim);

  mx::array operator()(const mx::array& x) const;
  void visit(Visitor& visitor);

  Linear linear_1;
  Linear linear_2;
};

}  // namespace klein::nn
