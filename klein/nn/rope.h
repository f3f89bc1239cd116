#pragma once

#include <array>
#include <span>
#include <vector>

#include "klein/tensor/mlx.h"

namespace klein::nn {

/// Cosines and sines of the rotation of every pair of a head, one row a token.
struct RopeTables {
  mx::array cosines;  ///< [L, D / 2]
  mx::array sines;    ///< [L, D / 2]

  /// Rows [begin, end).
  RopeTables rows(int begin, int end) const;
};

/// A token's place: image number (t), row (h), column (w), index in the text (l).
using PositionId = std::array<int, 4>;

/// Tables for the four axes of FLUX.2; axis a turns the next axes_dims[a] / 2 pairs of a head.
///
/// Dtype    angles, cosines and sines in float64, rounded once to float32
/// Source   diffusers transformer_flux2.py, Flux2PosEmbed
RopeTables rope_tables(std::span<const PositionId> ids, const std::array<int, 4>& axes_dims,
                       double theta);

/// Tables for one axis with positions 0 .. length - 1, as Qwen3 has them.
///
/// Dtype    everything in float32; the tables are then rounded to `dtype`
/// Source   transformers modeling_qwen3.py, Qwen3RotaryEmbedding
RopeTables rope_tables(int length, int head_dim, float theta, mx::Dtype dtype);

}  // namespace klein::nn
