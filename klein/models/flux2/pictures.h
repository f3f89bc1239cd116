#pragma once

#include <vector>

#include "klein/io/image.h"
#include "klein/models/flux2/vae.h"
#include "klein/models/flux2/vae_tiling.h"
#include "klein/nn/rope.h"
#include "klein/tensor/mlx.h"

/// Pictures and masks on their way into the transformer, and pictures out of the decoder.
namespace klein::flux2 {

/// The clean latents of a picture: encoded, packed, brought to unit variance.
///
/// Shapes   -> [1, (H / 16) * (W / 16), 4 * latent_channels]
/// Dtype    pixels in float32, rounded to `dtype` before the encoder
/// Errors   as Vae::encode
/// Source   diffusers pipeline_flux2_klein.py, _encode_vae_image
mx::array picture_tokens(const Vae& vae, const io::Image& image, mx::Dtype dtype,
                         const VaePlan& plan);

/// How far each token is repainted, from 0 to 1; white is 1.
///
/// Shapes   -> [1, (H / side) * (W / side), 1], sides multiples of `side` pixels, which is even
/// Source   diffusers pipeline_flux2_klein_inpaint.py, prepare_mask_latents: bilinear
///          interpolation, which at a whole factor reads the four pixels in the middle
mx::array mask_tokens(const io::GreyImage& mask, int side, mx::Dtype dtype);

/// The tokens of several pictures after one another, with their places: t = 10, 20, ...
struct ReferenceTokens {
  mx::array tokens = mx::array(0);  ///< [1, R, C]
  std::vector<nn::PositionId> ids = {};
};

/// Appends a picture of `rows` x `columns` tokens; `number` counts from 0.
void append(ReferenceTokens& references, const mx::array& tokens, int rows, int columns,
            int number);

/// What inpainting brings back after every step: the picture where the mask is black.
struct HeldTokens {
  mx::array clean, noise;  ///< [1 or B, L, C]
  mx::array mask;          ///< [1, L, 1]

  /// (1 - mask) * the picture at `sigma` + mask * latents.
  ///
  /// Dtype    that of latents; every operation rounds
  /// Source   diffusers pipeline_flux2_klein_inpaint.py, the denoising loop
  mx::array operator()(const mx::array& latents, float sigma) const;
};

/// One decoded picture as 8-bit RGB.
///
/// Shapes   pixels [1, H, W, 3], about [-1, 1]
/// Dtype    as ops::levels
/// Source   diffusers image_processor.py, postprocess
io::Image to_image(const mx::array& pixels);

}  // namespace klein::flux2
