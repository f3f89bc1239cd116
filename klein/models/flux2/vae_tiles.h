#pragma once

#include "klein/models/flux2/vae.h"
#include "klein/tensor/mlx.h"

/// The autoencoder in overlapping tiles that are blended, as diffusers' enable_tiling() does it.
///
/// Every tile has group norm statistics of its own: the picture differs from the untiled one, most
/// visibly by a shift of its colours. See vae_strips.h for parts without that.
namespace klein::flux2 {

/// Sizes of a tile, and how much of it lies over the next one.
struct TileSizes {
  int sample = 1024;      ///< Pixels.
  int latent = 128;       ///< The same side in latent pixels.
  double overlap = 0.25;  ///< Of a side.

  /// Those that diffusers takes for an autoencoder.
  static TileSizes of(const VaeConfig& config);
};

/// As Vae::decode, evaluated; latents of which no side is larger than a tile are one tile.
///
/// Errors   as Vae::decode; Error(shape) for tiles without a pixel that is not overlapped
/// Source   diffusers autoencoder_kl_flux2.py, tiled_decode
mx::array decode_in_tiles(const Vae& vae, const mx::array& latents, const TileSizes& tiles);

/// As Vae::encode, evaluated; a picture of which no side is larger than a tile is one tile.
///
/// Errors   as decode_in_tiles
/// Source   diffusers autoencoder_kl_flux2.py, _tiled_encode
mx::array encode_in_tiles(const Vae& vae, const mx::array& pixels, const TileSizes& tiles);

}  // namespace klein::flux2
