#pragma once

#include "klein/models/flux2/vae.h"
#include "klein/tensor/mlx.h"

/// The autoencoder in strips of rows: the same numbers as Vae::decode and Vae::encode from less
/// memory.
///
/// A layer goes over a map strip by strip and lets go of what it has read. Convolutions read one
/// row of the neighbouring strips, group norms use the statistics of the whole map, so there are no
/// seams and nothing is computed twice. Of the large maps two of the finest width are in memory at
/// a time; the rest is a few strips.
namespace klein::flux2 {

/// As Vae::decode, evaluated; `strip_rows` rows at a time on every level.
///
/// Errors   as Vae::decode; Error(shape) when strip_rows is below 1
mx::array decode_in_strips(const Vae& vae, const mx::array& latents, int strip_rows);

/// As Vae::encode, evaluated.
///
/// Errors   as Vae::encode; Error(shape) when strip_rows is below 1
mx::array encode_in_strips(const Vae& vae, const mx::array& pixels, int strip_rows);

}  // namespace klein::flux2
