#pragma once

#include <vector>

#include "klein/nn/rope.h"
#include "klein/tensor/mlx.h"

namespace klein::flux2 {

/// Every 2x2 square of latent pixels becomes the channels of one token.
///
/// Shapes   [B, 2 h, 2 w, C] -> [B, h * w, 4 C]; channel c * 4 + row * 2 + column, tokens row-major
/// Source   diffusers pipeline_flux2_klein.py, _patchify_latents and _pack_latents
mx::array pack_latents(const mx::array& latents);

/// Undoes pack_latents for a grid of `height` x `width` tokens.
///
/// Shapes   [B, height * width, 4 C] -> [B, 2 height, 2 width, C]
mx::array unpack_latents(const mx::array& packed, int height, int width);

/// Noise as diffusers draws and files it, one row a token.
///
/// Shapes   [B, C, h, w] -> [B, h * w, C]
mx::array tokens_from_grid(const mx::array& grid);

/// Positions of a picture of `height` x `width` tokens: (t, row, column, 0), row-major.
std::vector<nn::PositionId> image_position_ids(int height, int width, int t = 0);

}  // namespace klein::flux2
