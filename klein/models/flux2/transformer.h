#pragma once

#include <vector>

#include "klein/models/flux2/blocks.h"
#include "klein/models/flux2/config.h"
#include "klein/nn/embedding.h"
#include "klein/nn/rope.h"
#include "klein/tensor/mlx.h"

namespace klein::flux2 {

/// What the blocks keep of reference pictures that see nothing but one another, at timestep 0:
/// good for every prompt, timestep and seed.
///
/// Source   diffusers transformer_flux2.py, Flux2KVCache, whose extracting step computes the same
///          in one pass with the picture
struct KvCache {
  std::vector<KeyValues> double_blocks, single_blocks;
};

/// What one pass through the transformer reads; see Transformer.
struct TransformerInput {
  mx::array latents, prompt_embeds, timestep;
  nn::RopeTables rope;
  const KvCache* references = nullptr;
};

/// The FLUX.2 transformer: noisy latent tokens and a prompt to the velocity of each token.
///
/// Source   diffusers transformer_flux2.py, Flux2Transformer2DModel
struct Transformer {
  explicit Transformer(const TransformerConfig& config);

  /// Rotary tables for a text of `text_length` tokens followed by tokens at `image_ids`.
  nn::RopeTables rope(int text_length, const std::vector<nn::PositionId>& image_ids) const;

  /// Velocity (noise minus picture) of every latent token.
  ///
  /// Shapes   latents [B, S, in_channels], prompt_embeds [B, T, joint_attention_dim],
  ///          timestep [B], `rope` made for T and S -> [B, S, in_channels]
  /// Dtype    that of latents, which prompt_embeds must share
  /// Units    timestep is sigma, in [0, 1]; it is scaled by 1000 in the dtype of latents
  /// Errors   Error(shape) when the widths do not fit the model
  mx::array operator()(const mx::array& latents, const mx::array& prompt_embeds,
                       const mx::array& timestep, const nn::RopeTables& rope) const;

  void visit(nn::Visitor& visitor);

  /// What the timestep does to the blocks of each kind and to the end.
  struct Conditioning {
    mx::array activated;  ///< [B, dim]
    std::vector<ModulationPart> image, text, joined;
  };

  /// The steps around the blocks, for whoever runs the blocks otherwise than one after the other
  /// out of memory: condition, embed, the double-stream blocks, join, the others, finish.
  Conditioning condition(const mx::array& timestep, mx::Dtype dtype) const;
  mx::array embed_image(const mx::array& latents) const;
  mx::array embed_text(const mx::array& prompt_embeds) const;
  mx::array finish(const mx::array& joined, const Conditioning& conditioning,
                   int text_length) const;

  TransformerConfig config;
  nn::TimestepEmbedder timestep_embedder;
  Modulation double_stream_modulation_img, double_stream_modulation_txt, single_stream_modulation;
  nn::Linear x_embedder, context_embedder;
  std::vector<DoubleBlock> transformer_blocks;
  std::vector<SingleBlock> single_transformer_blocks;
  nn::Linear norm_out;  ///< [2 * dim, dim]; scale rows first, unlike every other modulation.
  nn::Linear proj_out;
};

/// Text tokens before image tokens, as the single-stream blocks read them.
mx::array join(const JointAttention::Streams& streams);

}  // namespace klein::flux2
