#pragma once

#include <optional>
#include <span>
#include <string>
#include <vector>

#include "klein/models/qwen3/config.h"
#include "klein/nn/linear.h"
#include "klein/nn/module.h"
#include "klein/nn/rope.h"
#include "klein/tensor/mlx.h"

namespace klein::qwen3 {

/// One prompt as the encoder reads it: ids padded on the right, and how many of them are real.
struct TokenRow {
  std::vector<int> ids;
  int length = 0;
};

/// Grouped-query self-attention with normed queries and keys.
struct Attention {
  explicit Attention(const TextEncoderConfig& config);

  /// Shapes   x [B, L, hidden] -> [B, L, hidden]; `key_lengths` counts the real tokens of each row
  mx::array operator()(const mx::array& x, const nn::RopeTables& rope,
                       const std::vector<int>& key_lengths) const;
  void visit(nn::Visitor& visitor);

  nn::Linear q_proj, k_proj, v_proj, o_proj;
  mx::array q_norm, k_norm;  ///< [head_dim]
  int heads, kv_heads, head_dim;
  float eps;
};

/// down_proj(silu(gate_proj(x)) * up_proj(x)).
struct Mlp {
  explicit Mlp(const TextEncoderConfig& config);

  mx::array operator()(const mx::array& x) const;
  void visit(nn::Visitor& visitor);

  nn::Linear gate_proj, up_proj, down_proj;
};

struct DecoderLayer {
  explicit DecoderLayer(const TextEncoderConfig& config);

  mx::array operator()(const mx::array& x, const nn::RopeTables& rope,
                       const std::vector<int>& key_lengths) const;
  void visit(nn::Visitor& visitor);

  Attention self_attn;
  Mlp mlp;
  mx::array input_layernorm, post_attention_layernorm;  ///< [hidden]
  float eps;
};

/// The first layers of a Qwen3 language model: token ids to hidden states.
///
/// Only as many layers exist as the last requested output needs; the checkpoint's other layers and
/// its head are neither read nor missed, nor is its final norm, which only the output after the
/// very last layer goes through.
///
/// Source   transformers modeling_qwen3.py, Qwen3Model
class TextEncoder {
 public:
  /// `out_layers` counts layers: 9 is the residual stream after nine layers, 0 the embeddings.
  ///
  /// Errors   Error(shape) when a layer is asked for that the model lacks, or none is
  TextEncoder(const TextEncoderConfig& config, std::vector<int> out_layers);

  /// One whose layers the caller builds and runs, between begin() and finish().
  static TextEncoder without_layers(const TextEncoderConfig& config, std::vector<int> out_layers);

  /// The hidden states after each of out_layers, side by side in that order.
  ///
  /// Shapes   rows: B prompts of L ids each -> [B, L, out_layers * hidden]
  /// Dtype    that the embedding table was filled for
  /// Errors   Error(shape) for rows of different lengths or an id outside the vocabulary
  mx::array operator()(std::span<const TokenRow> rows) const;

  /// Prompts between two layers.
  struct State {
    mx::array x;  ///< [B, L, hidden], the residual stream
    nn::RopeTables rope;
    std::vector<int> lengths;    ///< Of the prompts.
    std::vector<mx::array> out;  ///< What finish() puts side by side.
    int layers_done = 0;
  };

  /// The steps of operator(): embed the prompts, run one layer, in the end join the outputs.
  State begin(std::span<const TokenRow> rows) const;
  void run(const DecoderLayer& layer, State& state) const;
  mx::array finish(const State& state) const;

  /// How many layers the outputs need.
  int layer_count() const { return layer_count_; }

  void visit(nn::Visitor& visitor);

  /// Whether the tensor `name` belongs to the part of the checkpoint that encoding never uses.
  bool is_unused(const std::string& name) const;

  /// Width of one token's features: out_layers * hidden_size.
  int out_features() const;

 private:
  TextEncoder(const TextEncoderConfig& config, std::vector<int> out_layers, bool with_layers);
  void keep(State& state) const;
  const nn::RopeTables& rope(int length, mx::Dtype dtype) const;

  TextEncoderConfig config_;
  std::vector<int> out_layers_;
  int layer_count_ = 0;
  mutable std::optional<nn::RopeTables> rope_;  ///< Of the last prompt; one thread owns all arrays.
  nn::Embedding embed_tokens_;                  ///< [vocab, hidden]
  std::vector<DecoderLayer> layers_;
  std::optional<mx::array>
      norm_;  ///< [hidden]; set when the output after the last layer is asked for.
};

}  // namespace klein::qwen3
