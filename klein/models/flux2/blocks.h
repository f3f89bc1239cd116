#pragma once

#include <utility>
#include <vector>

#include "klein/models/flux2/config.h"
#include "klein/nn/linear.h"
#include "klein/nn/module.h"
#include "klein/nn/norm.h"
#include "klein/nn/rope.h"
#include "klein/nn/swiglu.h"
#include "klein/tensor/mlx.h"

namespace klein::flux2 {

/// What the timestep does to one half of a block: x = x + gate * f((1 + scale) * norm(x) + shift).
struct ModulationPart {
  mx::array shift, scale, gate;  ///< [B, dim]
};

/// Queries, keys and values of one stream, normed and rotated.
struct HeadTensors {
  mx::array q, k, v;  ///< [B, L, H, D]
};

/// Keys and values of the reference tokens in one block, normed and rotated.
struct KeyValues {
  mx::array k, v;  ///< [1 or B, R, H, D]
};

/// Makes the modulation of all blocks of one kind from the timestep embedding.
///
/// Weights  linear [parts * 3 * dim, dim]; rows in the order shift, scale, gate for each part
/// Source   diffusers transformer_flux2.py, Flux2Modulation
struct Modulation {
  Modulation(int dim, int part_count);

  /// `activated` is silu(timestep embedding) [B, dim]; returns one entry a part.
  std::vector<ModulationPart> operator()(const mx::array& activated) const;
  void visit(nn::Visitor& visitor);

  nn::Linear linear;
  int parts;
};

/// The attention of a double-stream block; text tokens come before image tokens.
///
/// Source   diffusers transformer_flux2.py, Flux2Attention
struct JointAttention {
  explicit JointAttention(const TransformerConfig& config);

  struct Streams {
    mx::array image, text;
  };

  /// All tokens see all tokens, and those of `references` where there are any.
  ///
  /// Shapes   image [B, S, dim], text [B, T, dim]; rope tables of T + S tokens
  Streams operator()(const Streams& x, const nn::RopeTables& rope,
                     const KeyValues* references = nullptr) const;

  /// Image tokens that see nothing but one another.
  ///
  /// Shapes   image [B, S, dim]; rope tables of S tokens -> the same; their keys and values
  std::pair<mx::array, KeyValues> alone(const mx::array& image, const nn::RopeTables& rope) const;
  void visit(nn::Visitor& visitor);

  nn::Linear to_q, to_k, to_v, to_out, add_q_proj, add_k_proj, add_v_proj, to_add_out;
  nn::RMSNorm norm_q, norm_k, norm_added_q, norm_added_k;
  int heads, head_dim;

 private:
  HeadTensors image_heads(const mx::array& image, const nn::RopeTables& rope) const;
};

/// Text and image tokens with weights of their own that meet in the attention.
///
/// Source   diffusers transformer_flux2.py, Flux2TransformerBlock
struct DoubleBlock {
  explicit DoubleBlock(const TransformerConfig& config);

  JointAttention::Streams operator()(const JointAttention::Streams& x,
                                     const std::vector<ModulationPart>& image_modulation,
                                     const std::vector<ModulationPart>& text_modulation,
                                     const nn::RopeTables& rope,
                                     const KeyValues* references = nullptr) const;

  /// The image half by itself, for reference tokens; see JointAttention::alone.
  std::pair<mx::array, KeyValues> alone(const mx::array& image,
                                        const std::vector<ModulationPart>& modulation,
                                        const nn::RopeTables& rope) const;
  void visit(nn::Visitor& visitor);

  JointAttention attn;
  nn::SwiGLU ff, ff_context;
  float eps;

 private:
  mx::array normed(const mx::array& stream, const ModulationPart& m) const;
  mx::array after_attention(const mx::array& stream, const mx::array& seen,
                            const std::vector<ModulationPart>& modulation,
                            const nn::SwiGLU& feed_forward) const;
};

/// All tokens in one sequence; attention and feed-forward side by side in two wide projections.
///
/// Weights  attn.to_qkv_mlp_proj rows: q, k, v (dim each), gate, up (mlp_dim each);
///          attn.to_out columns: attention (dim), feed-forward (mlp_dim)
/// Source   diffusers transformer_flux2.py, Flux2SingleTransformerBlock
struct SingleBlock {
  explicit SingleBlock(const TransformerConfig& config);

  /// Shapes   x [B, L, dim] -> [B, L, dim]
  mx::array operator()(const mx::array& x, const ModulationPart& modulation,
                       const nn::RopeTables& rope, const KeyValues* references = nullptr) const;

  /// The same for reference tokens, with their keys and values.
  std::pair<mx::array, KeyValues> alone(const mx::array& x, const ModulationPart& modulation,
                                        const nn::RopeTables& rope) const;
  void visit(nn::Visitor& visitor);

  nn::Linear to_qkv_mlp_proj, to_out;
  nn::RMSNorm norm_q, norm_k;
  int heads, head_dim, mlp_dim;
  float eps;

 private:
  struct Projected {
    HeadTensors heads;
    mx::array gated;  ///< [B, L, mlp_dim]
  };
  Projected project(const mx::array& x, const ModulationPart& modulation,
                    const nn::RopeTables& rope) const;
  mx::array finish(const mx::array& x, const ModulationPart& modulation, const mx::array& seen,
                   const mx::array& gated) const;
};

}  // namespace klein::flux2
