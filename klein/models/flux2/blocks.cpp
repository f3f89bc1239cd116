#include "klein/models/flux2/blocks.h"

#include <cmath>

#include "klein/ops/attention.h"
#include "klein/ops/elementwise.h"
#include "klein/ops/layout.h"
#include "klein/ops/norm.h"
#include "klein/ops/rope.h"

namespace klein::flux2 {
namespace {

/// Tokens [begin, end) of x [B, L, ...].
mx::array tokens(const mx::array& x, int begin, int end) {
  auto stop = x.shape();
  stop[1] = end;
  mx::Shape start(stop.size(), 0);
  start[1] = begin;
  return mx::slice(x, start, stop);
}

/// [B, L, heads * D] -> [B, L, heads, D]
mx::array split_heads(const mx::array& x, int heads) {
  return mx::unflatten(x, -1, {heads, x.shape(-1) / heads});
}

mx::array attend(const HeadTensors& h) {
  const float scale = 1.0f / std::sqrt(static_cast<float>(h.q.shape(-1)));
  return mx::flatten(ops::attention(h.q, h.k, h.v, scale), 2, 3);
}

/// The same with reference tokens among the keys; a batch shares them.
HeadTensors with_references(HeadTensors h, const KeyValues* references) {
  if (references == nullptr) return h;
  const auto append = [](const mx::array& own, const mx::array& more) {
    auto shape = more.shape();
    shape[0] = own.shape(0);
    return mx::concatenate({own, mx::broadcast_to(more, shape)}, 1);
  };
  h.k = append(h.k, references->k);
  h.v = append(h.v, references->v);
  return h;
}

mx::array norm_and_rotate(const mx::array& x, const nn::RMSNorm& norm, const nn::RopeTables& rope) {
  return ops::rms_norm_rope_interleaved(x, norm.weight, norm.eps, rope.cosines, rope.sines);
}

}  // namespace

Modulation::Modulation(int dim, int part_count)
    : linear(dim, part_count * 3 * dim), parts(part_count) {}

std::vector<ModulationPart> Modulation::operator()(const mx::array& activated) const {
  const auto chunks = mx::split(linear(activated), parts * 3, -1);
  std::vector<ModulationPart> result;
  for (std::size_t i = 0; i + 2 < chunks.size(); i += 3)
    result.push_back({.shift = chunks[i], .scale = chunks[i + 1], .gate = chunks[i + 2]});
  return result;
}

void Modulation::visit(nn::Visitor& visitor) {
  visitor.linear("linear", linear);
}

JointAttention::JointAttention(const TransformerConfig& c)
    : to_q(c.dim(), c.dim()),
      to_k(c.dim(), c.dim()),
      to_v(c.dim(), c.dim()),
      to_out(c.dim(), c.dim()),
      add_q_proj(c.dim(), c.dim()),
      add_k_proj(c.dim(), c.dim()),
      add_v_proj(c.dim(), c.dim()),
      to_add_out(c.dim(), c.dim()),
      norm_q(c.attention_head_dim, c.eps),
      norm_k(c.attention_head_dim, c.eps),
      norm_added_q(c.attention_head_dim, c.eps),
      norm_added_k(c.attention_head_dim, c.eps),
      heads(c.num_attention_heads),
      head_dim(c.attention_head_dim) {}

HeadTensors JointAttention::image_heads(const mx::array& image, const nn::RopeTables& rope) const {
  return {norm_and_rotate(split_heads(to_q(image), heads), norm_q, rope),
          norm_and_rotate(split_heads(to_k(image), heads), norm_k, rope),
          split_heads(to_v(image), heads)};
}

JointAttention::Streams JointAttention::operator()(const Streams& x, const nn::RopeTables& rope,
                                                   const KeyValues* references) const {
  const int text_length = x.text.shape(1);
  const int length = text_length + x.image.shape(1);
  const auto text_rope = rope.rows(0, text_length);

  const auto image = image_heads(x.image, rope.rows(text_length, length));
  const HeadTensors text{
      norm_and_rotate(split_heads(add_q_proj(x.text), heads), norm_added_q, text_rope),
      norm_and_rotate(split_heads(add_k_proj(x.text), heads), norm_added_k, text_rope),
      split_heads(add_v_proj(x.text), heads)};

  const auto seen = attend(with_references({.q = ops::concatenate({text.q, image.q}, 1),
                                            .k = ops::concatenate({text.k, image.k}, 1),
                                            .v = ops::concatenate({text.v, image.v}, 1)},
                                           references));
  return {.image = to_out(tokens(seen, text_length, length)),
          .text = to_add_out(tokens(seen, 0, text_length))};
}

std::pair<mx::array, KeyValues> JointAttention::alone(const mx::array& image,
                                                      const nn::RopeTables& rope) const {
  const auto h = image_heads(image, rope);
  return {to_out(attend(h)), {h.k, h.v}};
}

void JointAttention::visit(nn::Visitor& visitor) {
  visitor.linear("to_q", to_q);
  visitor.linear("to_k", to_k);
  visitor.linear("to_v", to_v);
  visitor.linear("to_out.0", to_out);
  visitor.linear("add_q_proj", add_q_proj);
  visitor.linear("add_k_proj", add_k_proj);
  visitor.linear("add_v_proj", add_v_proj);
  visitor.linear("to_add_out", to_add_out);
  visitor.child("norm_q", norm_q);
  visitor.child("norm_k", norm_k);
  visitor.child("norm_added_q", norm_added_q);
  visitor.child("norm_added_k", norm_added_k);
}

DoubleBlock::DoubleBlock(const TransformerConfig& c)
    : attn(c), ff(c.dim(), c.mlp_dim()), ff_context(c.dim(), c.mlp_dim()), eps(c.eps) {}

mx::array DoubleBlock::normed(const mx::array& stream, const ModulationPart& m) const {
  return ops::modulated_layer_norm(stream, m.scale, m.shift, eps);
}

mx::array DoubleBlock::after_attention(const mx::array& stream, const mx::array& seen,
                                       const std::vector<ModulationPart>& modulation,
                                       const nn::SwiGLU& feed_forward) const {
  const auto x = ops::add_gated(stream, modulation[0].gate, seen);
  return ops::add_gated(x, modulation[1].gate, feed_forward(normed(x, modulation[1])));
}

JointAttention::Streams DoubleBlock::operator()(const JointAttention::Streams& x,
                                                const std::vector<ModulationPart>& image_modulation,
                                                const std::vector<ModulationPart>& text_modulation,
                                                const nn::RopeTables& rope,
                                                const KeyValues* references) const {
  const auto seen = attn(
      {.image = normed(x.image, image_modulation[0]), .text = normed(x.text, text_modulation[0])},
      rope, references);
  return {.image = after_attention(x.image, seen.image, image_modulation, ff),
          .text = after_attention(x.text, seen.text, text_modulation, ff_context)};
}

std::pair<mx::array, KeyValues> DoubleBlock::alone(const mx::array& image,
                                                   const std::vector<ModulationPart>& modulation,
                                                   const nn::RopeTables& rope) const {
  const auto [seen, kept] = attn.alone(normed(image, modulation[0]), rope);
  return {after_attention(image, seen, modulation, ff), kept};
}

void DoubleBlock::visit(nn::Visitor& visitor) {
  visitor.child("attn", attn);
  visitor.child("ff", ff);
  visitor.child("ff_context", ff_context);
}

SingleBlock::SingleBlock(const TransformerConfig& c)
    : to_qkv_mlp_proj(c.dim(), 3 * c.dim() + 2 * c.mlp_dim()),
      to_out(c.dim() + c.mlp_dim(), c.dim()),
      norm_q(c.attention_head_dim, c.eps),
      norm_k(c.attention_head_dim, c.eps),
      heads(c.num_attention_heads),
      head_dim(c.attention_head_dim),
      mlp_dim(c.mlp_dim()),
      eps(c.eps) {}

SingleBlock::Projected SingleBlock::project(const mx::array& x, const ModulationPart& modulation,
                                            const nn::RopeTables& rope) const {
  const int dim = x.shape(-1);
  const auto wide =
      to_qkv_mlp_proj(ops::modulated_layer_norm(x, modulation.scale, modulation.shift, eps));
  const auto [q, k, v] = chunk<3>(ops::columns(wide, 0, 3 * dim));
  return {.heads = {.q = norm_and_rotate(split_heads(q, heads), norm_q, rope),
                    .k = norm_and_rotate(split_heads(k, heads), norm_k, rope),
                    .v = split_heads(v, heads)},
          .gated = ops::swiglu(ops::columns(wide, 3 * dim, 3 * dim + 2 * mlp_dim))};
}

mx::array SingleBlock::finish(const mx::array& x, const ModulationPart& modulation,
                              const mx::array& seen, const mx::array& gated) const {
  return ops::add_gated(x, modulation.gate, to_out(ops::concatenate({seen, gated}, -1)));
}

mx::array SingleBlock::operator()(const mx::array& x, const ModulationPart& modulation,
                                  const nn::RopeTables& rope, const KeyValues* references) const {
  const auto [h, gated] = project(x, modulation, rope);
  return finish(x, modulation, attend(with_references(h, references)), gated);
}

std::pair<mx::array, KeyValues> SingleBlock::alone(const mx::array& x,
                                                   const ModulationPart& modulation,
                                                   const nn::RopeTables& rope) const {
  const auto [h, gated] = project(x, modulation, rope);
  return {finish(x, modulation, attend(h), gated), {h.k, h.v}};
}

void SingleBlock::visit(nn::Visitor& visitor) {
  visitor.linear("attn.to_qkv_mlp_proj", to_qkv_mlp_proj);
  visitor.linear("attn.to_out", to_out);
  visitor.child("attn.norm_q", norm_q);
  visitor.child("attn.norm_k", norm_k);
}

}  // namespace klein::flux2
