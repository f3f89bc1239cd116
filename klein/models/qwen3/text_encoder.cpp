#include "klein/models/qwen3/text_encoder.h"

#include <algorithm>
#include <charconv>
#include <cmath>

#include <fmt/format.h>
#include <fmt/ranges.h>

#include "klein/core/error.h"
#include "klein/ops/attention.h"
#include "klein/ops/elementwise.h"
#include "klein/ops/host_memory.h"
#include "klein/ops/norm.h"
#include "klein/ops/rope.h"
#include "klein/tensor/pace.h"

namespace klein::qwen3 {

Attention::Attention(const TextEncoderConfig& c)
    : q_proj(c.hidden_size, c.num_attention_heads * c.head_dim),
      k_proj(c.hidden_size, c.num_key_value_heads * c.head_dim),
      v_proj(c.hidden_size, c.num_key_value_heads * c.head_dim),
      o_proj(c.num_attention_heads * c.head_dim, c.hidden_size),
      q_norm(mx::ones({c.head_dim})),
      k_norm(mx::ones({c.head_dim})),
      heads(c.num_attention_heads),
      kv_heads(c.num_key_value_heads),
      head_dim(c.head_dim),
      eps(c.rms_norm_eps) {}

mx::array Attention::operator()(const mx::array& x, const nn::RopeTables& rope,
                                const std::vector<int>& key_lengths) const {
  const int batch = x.shape(0), length = x.shape(1);
  const auto split = [&](const mx::array& a, int count) {
    return mx::reshape(a, {batch, length, count, head_dim});
  };
  const auto place = [&](const mx::array& a, const mx::array& norm) {
    return ops::rms_norm_rope_half(a, norm, eps, rope.cosines, rope.sines);
  };
  const auto q = place(split(q_proj(x), heads), q_norm);
  const auto k = place(split(k_proj(x), kv_heads), k_norm);
  const auto v = split(v_proj(x), kv_heads);

  const float scale = 1.0f / std::sqrt(static_cast<float>(head_dim));
  const auto seen = ops::attention(q, k, v, scale, {.causal = true, .key_lengths = key_lengths});
  return o_proj(mx::reshape(seen, {batch, length, heads * head_dim}));
}

void Attention::visit(nn::Visitor& visitor) {
  visitor.linear("q_proj", q_proj);
  visitor.linear("k_proj", k_proj);
  visitor.linear("v_proj", v_proj);
  visitor.linear("o_proj", o_proj);
  visitor.array("q_norm.weight", q_norm);
  visitor.array("k_norm.weight", k_norm);
}

Mlp::Mlp(const TextEncoderConfig& c)
    : gate_proj(c.hidden_size, c.intermediate_size),
      up_proj(c.hidden_size, c.intermediate_size),
      down_proj(c.intermediate_size, c.hidden_size) {}

mx::array Mlp::operator()(const mx::array& x) const {
  return down_proj(ops::swiglu(gate_proj(x), up_proj(x)));
}

void Mlp::visit(nn::Visitor& visitor) {
  visitor.linear("gate_proj", gate_proj);
  visitor.linear("up_proj", up_proj);
  visitor.linear("down_proj", down_proj);
}

DecoderLayer::DecoderLayer(const TextEncoderConfig& c)
    : self_attn(c),
      mlp(c),
      input_layernorm(mx::ones({c.hidden_size})),
      post_attention_layernorm(mx::ones({c.hidden_size})),
      eps(c.rms_norm_eps) {}

mx::array DecoderLayer::operator()(const mx::array& x, const nn::RopeTables& rope,
                                   const std::vector<int>& key_lengths) const {
  const auto attended =
      x + self_attn(ops::rms_norm_rounded_twice(x, input_layernorm, eps), rope, key_lengths);
  return attended + mlp(ops::rms_norm_rounded_twice(attended, post_attention_layernorm, eps));
}

void DecoderLayer::visit(nn::Visitor& visitor) {
  visitor.child("self_attn", self_attn);
  visitor.child("mlp", mlp);
  visitor.array("input_layernorm.weight", input_layernorm);
  visitor.array("post_attention_layernorm.weight", post_attention_layernorm);
}

TextEncoder::TextEncoder(const TextEncoderConfig& config, std::vector<int> out_layers)
    : TextEncoder(config, std::move(out_layers), /*with_layers=*/true) {}

TextEncoder TextEncoder::without_layers(const TextEncoderConfig& config,
                                        std::vector<int> out_layers) {
  return {config, std::move(out_layers), /*with_layers=*/false};
}

TextEncoder::TextEncoder(const TextEncoderConfig& config, std::vector<int> out_layers,
                         bool with_layers)
    : config_(config),
      out_layers_(std::move(out_layers)),
      embed_tokens_(config.vocab_size, config.hidden_size) {
  if (out_layers_.empty() || std::ranges::min(out_layers_) < 0 ||
      std::ranges::max(out_layers_) > config.num_hidden_layers)
    throw Error(ErrorKind::shape,
                fmt::format("expected text encoder layers between 0 and {}, got [{}]",
                            config.num_hidden_layers, fmt::join(out_layers_, ", ")));
  layer_count_ = std::ranges::max(out_layers_);
  if (with_layers)
    for (int i = 0; i < layer_count_; ++i) layers_.emplace_back(config);
  if (layer_count_ == config.num_hidden_layers) norm_ = mx::ones({config.hidden_size});
}

int TextEncoder::out_features() const {
  return static_cast<int>(out_layers_.size()) * config_.hidden_size;
}

mx::array TextEncoder::operator()(std::span<const TokenRow> rows) const {
  auto state = begin(rows);
  Pace pace;
  for (const auto& layer : layers_) {
    run(layer, state);
    pace.start({state.x});
  }
  return finish(state);
}

TextEncoder::State TextEncoder::begin(std::span<const TokenRow> rows) const {
  std::vector<int> ids, lengths;
  const int length = rows.empty() ? 0 : static_cast<int>(rows.front().ids.size());
  for (const auto& row : rows) {
    if (static_cast<int>(row.ids.size()) != length || length == 0)
      throw Error(ErrorKind::shape, "expected prompts padded to one length");
    for (const int id : row.ids)
      if (id < 0 || id >= config_.vocab_size)
        throw Error(ErrorKind::shape,
                    fmt::format("expected token ids below {}, the size of the text encoder's "
                                "vocabulary, got {}",
                                config_.vocab_size, id),
                    "The tokenizer belongs to another text encoder.");
    ids.insert(ids.end(), row.ids.begin(), row.ids.end());
    lengths.push_back(row.length);
  }

  const auto x = embed_tokens_(ops::array_of(ids, {static_cast<int>(rows.size()), length}));
  State state{.x = x,
              .rope = rope(length, x.dtype()),
              .lengths = std::move(lengths),
              .out = std::vector<mx::array>(out_layers_.size(), x)};
  keep(state);
  return state;
}

/// Prompts have one length, so the last tables serve again.
const nn::RopeTables& TextEncoder::rope(int length, mx::Dtype dtype) const {
  if (!rope_ || rope_->cosines.shape(0) != length || rope_->cosines.dtype() != dtype)
    rope_ = nn::rope_tables(length, config_.head_dim, config_.rope_theta, dtype);
  return *rope_;
}

void TextEncoder::run(const DecoderLayer& layer, State& state) const {
  state.x = layer(state.x, state.rope, state.lengths);
  ++state.layers_done;
  keep(state);
}

/// Of the residual stream after so many layers, what was asked for.
void TextEncoder::keep(State& state) const {
  for (std::size_t i = 0; i < out_layers_.size(); ++i)
    if (out_layers_[i] == state.layers_done) state.out[i] = state.x;
}

mx::array TextEncoder::finish(const State& state) const {
  auto out = state.out;
  for (std::size_t i = 0; norm_ && i < out.size(); ++i)
    if (out_layers_[i] == layer_count_)  // transformers norms the last state, and only that one
      out[i] = ops::rms_norm_rounded_twice(out[i], *norm_, config_.rms_norm_eps);
  return mx::concatenate(out, -1);
}

void TextEncoder::visit(nn::Visitor& visitor) {
  visitor.embedding("model.embed_tokens", embed_tokens_);
  visitor.children("model.layers", layers_);
  if (norm_) visitor.array("model.norm.weight", *norm_);
}

bool TextEncoder::is_unused(const std::string& name) const {
  if (name == "lm_head.weight" || (name == "model.norm.weight" && !norm_)) return true;
  constexpr std::string_view prefix = "model.layers.";
  if (!name.starts_with(prefix)) return false;
  int layer = -1;
  const char* end = name.data() + name.size();
  const auto parsed = std::from_chars(name.data() + prefix.size(), end, layer);
  return parsed.ec == std::errc() && parsed.ptr != end && *parsed.ptr == '.' &&
         layer >= layer_count_ && layer < config_.num_hidden_layers;
}

}  // namespace klein::qwen3
