#pragma once

#include <array>
#include <vector>

namespace klein::io {
class JsonReader;
}

namespace klein::flux2 {

/// Sizes of the FLUX.2 transformer; field names are those of diffusers' transformer/config.json, so
/// that `from_json` reads as a list. Sizes have no defaults: those of diffusers describe FLUX.2
/// dev.
struct TransformerConfig {
  int in_channels = 0;        ///< Channels of a latent token: VAE channels x 2 x 2 patch.
  int num_layers = 0;         ///< Double-stream blocks (text and image apart).
  int num_single_layers = 0;  ///< Single-stream blocks (one joined sequence).
  int attention_head_dim = 0;
  int num_attention_heads = 0;
  int joint_attention_dim = 0;  ///< Width of a prompt token: the chosen Qwen3 layers side by side.
  int timestep_guidance_channels = 256;
  float mlp_ratio = 3.0f;
  std::array<int, 4> axes_dims_rope = {32, 32, 32, 32};  ///< Head dims per axis: t, h, w, l.
  double rope_theta = 2000.0;
  float eps = 1e-6f;

  int dim() const { return num_attention_heads * attention_head_dim; }
  int mlp_dim() const { return static_cast<int>(static_cast<float>(dim()) * mlp_ratio); }

  /// Throws Error(format) for a missing size, Error(shape) for sizes that cannot work together,
  /// Error(unsupported) for a model with guidance embeddings (FLUX.2 dev).
  static TransformerConfig from_json(const io::JsonReader& json);
};

/// Sizes of the autoencoder; field names are those of diffusers' vae/config.json.
struct VaeConfig {
  int in_channels = 3;
  int out_channels = 3;
  int latent_channels = 0;
  std::vector<int> block_out_channels;          ///< Widths of the encoder, finest first.
  std::vector<int> decoder_block_out_channels;  ///< Widths of the decoder, finest first.
  int layers_per_block = 0;
  int norm_num_groups = 32;
  bool mid_block_add_attention = true;
  bool use_quant_conv = true;
  bool use_post_quant_conv = true;
  float batch_norm_eps = 1e-4f;
  int sample_size = 1024;  ///< Side of the pictures it was made for, in pixels.

  /// Pixels per latent pixel, on either axis.
  int scale() const { return 1 << (static_cast<int>(block_out_channels.size()) - 1); }

  /// Throws Error(format) for a missing size, Error(shape) for sizes that cannot work together.
  static VaeConfig from_json(const io::JsonReader& json);
};

}  // namespace klein::flux2
