#include "klein/models/qwen3/naming.h"

#include <array>
#include <string>

#include <fmt/format.h>

#include "klein/core/error.h"

namespace klein::qwen3 {
namespace {

using weights::NameRule;

constexpr std::array kTransformersRules = {
    NameRule{"lm_head.weight", ""},
    NameRule{"rotary_emb.inv_freq", ""},
    NameRule{"model.rotary_emb.inv_freq", ""},
    NameRule{"embed_tokens.*", "model.embed_tokens.*"},
    NameRule{"layers.*", "model.layers.*"},
    NameRule{"norm.*", "model.norm.*"},
};

constexpr std::array kLlamaRules = {
    NameRule{"token_embd.weight", "model.embed_tokens.weight"},
    NameRule{"output_norm.weight", "model.norm.weight"},
    NameRule{"output.weight", ""},
    NameRule{"rope_freqs.weight", ""},
    NameRule{"blk.#.attn_norm.weight", "model.layers.#.input_layernorm.weight"},
    NameRule{"blk.#.ffn_norm.weight", "model.layers.#.post_attention_layernorm.weight"},
    NameRule{"blk.#.attn_q.weight", "model.layers.#.self_attn.q_proj.weight"},
    NameRule{"blk.#.attn_k.weight", "model.layers.#.self_attn.k_proj.weight"},
    NameRule{"blk.#.attn_v.weight", "model.layers.#.self_attn.v_proj.weight"},
    NameRule{"blk.#.attn_output.weight", "model.layers.#.self_attn.o_proj.weight"},
    NameRule{"blk.#.attn_q_norm.weight", "model.layers.#.self_attn.q_norm.weight"},
    NameRule{"blk.#.attn_k_norm.weight", "model.layers.#.self_attn.k_norm.weight"},
    NameRule{"blk.#.ffn_gate.weight", "model.layers.#.mlp.gate_proj.weight"},
    NameRule{"blk.#.ffn_up.weight", "model.layers.#.mlp.up_proj.weight"},
    NameRule{"blk.#.ffn_down.weight", "model.layers.#.mlp.down_proj.weight"},
};

}  // namespace

weights::Renaming renaming(const weights::Shapes& tensors, weights::Convention convention,
                           std::string_view prefix, std::string_view where) {
  if (convention == weights::Convention::llama_cpp)
    return weights::rename(tensors, prefix, kLlamaRules, 0, where);
  return weights::rename(tensors, prefix, kTransformersRules, 0, where);
}

TextEncoderConfig config_from(const weights::Shapes& tensors, std::string_view where) {
  const auto rows = [&](const char* name) { return weights::side_of(tensors, name, 2, 0, where); };
  TextEncoderConfig c;
  c.vocab_size = rows("model.embed_tokens.weight");
  c.hidden_size = weights::side_of(tensors, "model.embed_tokens.weight", 2, 1, where);
  c.num_hidden_layers = weights::count_children(tensors, "model.layers.", where);
  c.head_dim = weights::side_of(tensors, "model.layers.0.self_attn.q_norm.weight", 1, 0, where);
  const int queries = rows("model.layers.0.self_attn.q_proj.weight");
  const int keys = rows("model.layers.0.self_attn.k_proj.weight");
  c.num_attention_heads = queries / c.head_dim;
  c.num_key_value_heads = keys / c.head_dim;
  c.intermediate_size = rows("model.layers.0.mlp.gate_proj.weight");
  if (c.head_dim % 2 != 0 || queries % c.head_dim != 0 || keys % c.head_dim != 0 ||
      queries % keys != 0)
    throw Error(ErrorKind::shape,
                fmt::format("expected q_proj and k_proj of whole heads of even width, the first of "
                            "a multiple of the second's, got {} and {} rows for heads of {}: {}",
                            queries, keys, c.head_dim, where));
  return c;
}

}  // namespace klein::qwen3
