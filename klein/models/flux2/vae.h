#pragma once

#include <optional>
#include <vector>

#include "klein/models/flux2/config.h"
#include "klein/nn/conv.h"
#include "klein/nn/linear.h"
#include "klein/nn/module.h"
#include "klein/nn/norm.h"
#include "klein/tensor/mlx.h"
#include "klein/tensor/pace.h"

namespace klein::flux2 {

/// Two convolutions behind group norm and SiLU, around a shortcut.
///
/// Source   diffusers resnet.py, ResnetBlock2D without time embedding
struct ResnetBlock {
  ResnetBlock(int in, int out, int groups);

  /// Shapes   x [B, H, W, in] -> [B, H, W, out]
  mx::array operator()(const mx::array& x) const;

  /// The same in two steps, for whoever evaluates large pictures bit by bit.
  mx::array first_half(const mx::array& x) const;
  mx::array second_half(const mx::array& x, const mx::array& half) const;
  void visit(nn::Visitor& visitor);

  nn::GroupNorm norm1, norm2;
  nn::Conv2d conv1, conv2;
  std::optional<nn::Conv2d> conv_shortcut;  ///< 1x1, where the width changes.
};

/// Self-attention of all latent pixels with one wide head.
///
/// Source   diffusers attention_processor.py, Attention in UNetMidBlock2D
struct VaeAttention {
  VaeAttention(int channels, int groups);

  mx::array operator()(const mx::array& x) const;
  void visit(nn::Visitor& visitor);

  nn::GroupNorm group_norm;
  nn::Linear to_q, to_k, to_v, to_out;
};

struct MidBlock {
  MidBlock(int channels, int groups, bool with_attention);

  mx::array operator()(const mx::array& x) const;
  void visit(nn::Visitor& visitor);

  std::vector<ResnetBlock> resnets;
  std::vector<VaeAttention> attentions;
};

/// One level of the encoder: resnets, then a halving on all levels but the last.
struct DownBlock {
  DownBlock(int in, int out, const VaeConfig& config, bool halve);

  mx::array operator()(const mx::array& x) const;
  void visit(nn::Visitor& visitor);

  std::vector<ResnetBlock> resnets;
  std::vector<nn::Downsample> downsamplers;
};

/// One level of the decoder: one resnet more than the encoder has, then a doubling on all levels
/// but the last.
struct UpBlock {
  UpBlock(int in, int out, const VaeConfig& config, bool twice_as_large);

  /// Large results are evaluated one by one, in a pace that blocks may share; x goes with the
  /// first.
  mx::array operator()(mx::array x, Pace& pace) const;
  void visit(nn::Visitor& visitor);

  std::vector<ResnetBlock> resnets;
  std::vector<nn::Upsample> upsamplers;
};

struct Encoder {
  explicit Encoder(const VaeConfig& config);

  /// Shapes   [B, H, W, 3] -> [B, H / 8, W / 8, 2 * latent_channels]: means, then log variances
  mx::array operator()(const mx::array& x) const;
  void visit(nn::Visitor& visitor);

  nn::Conv2d conv_in;
  std::vector<DownBlock> down_blocks;
  MidBlock mid_block;
  nn::GroupNorm conv_norm_out;
  nn::Conv2d conv_out;
};

struct Decoder {
  explicit Decoder(const VaeConfig& config);

  /// Shapes   [B, h, w, latent_channels] -> [B, 8 h, 8 w, 3]
  mx::array operator()(const mx::array& z) const;
  void visit(nn::Visitor& visitor);

  nn::Conv2d conv_in;
  MidBlock mid_block;
  std::vector<UpBlock> up_blocks;
  nn::GroupNorm conv_norm_out;
  nn::Conv2d conv_out;
};

/// The FLUX.2 autoencoder with the statistics that bring packed latents to unit variance.
///
/// Source   diffusers autoencoder_kl_flux2.py, AutoencoderKLFlux2
struct Vae {
  explicit Vae(const VaeConfig& config);

  /// The mean of the latent distribution; nothing is sampled.
  ///
  /// Shapes   pixels [B, H, W, 3] in [-1, 1] -> [B, H / 8, W / 8, latent_channels]
  /// Errors   Error(shape) when a side is not a multiple of the scale
  mx::array encode(const mx::array& pixels) const;

  /// What encode expects of its pictures, and what it does with the encoder's result.
  void expect_pixels(const mx::array& pixels) const;
  mx::array mean_of(const mx::array& moments) const;

  /// Shapes   latents [B, h, w, latent_channels] -> [B, 8 h, 8 w, 3], about [-1, 1], not clamped
  mx::array decode(const mx::array& latents) const;

  /// (packed - mean) / sqrt(var + eps), per channel of the packed latents.
  ///
  /// Shapes   [B, L, 4 * latent_channels] -> the same
  /// Dtype    that of `packed`; every operation rounds to it
  mx::array normalize(const mx::array& packed) const;

  /// packed * sqrt(var + eps) + mean: undoes normalize.
  mx::array denormalize(const mx::array& packed) const;

  void visit(nn::Visitor& visitor);

  VaeConfig config;
  Encoder encoder;
  Decoder decoder;
  std::optional<nn::Conv2d> quant_conv, post_quant_conv;
  mx::array running_mean, running_var;  ///< [4 * latent_channels]
};

}  // namespace klein::flux2
