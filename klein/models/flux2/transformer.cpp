#include "klein/models/flux2/transformer.h"

#include "klein/ops/elementwise.h"
#include "klein/ops/norm.h"
#include "klein/tensor/check.h"

namespace klein::flux2 {

Transformer::Transformer(const TransformerConfig& c)
    : config(c),
      timestep_embedder(c.timestep_guidance_channels, c.dim()),
      double_stream_modulation_img(c.dim(), 2),
      double_stream_modulation_txt(c.dim(), 2),
      single_stream_modulation(c.dim(), 1),
      x_embedder(c.in_channels, c.dim()),
      context_embedder(c.joint_attention_dim, c.dim()),
      norm_out(c.dim(), 2 * c.dim()),
      proj_out(c.dim(), c.in_channels) {
  for (int i = 0; i < c.num_layers; ++i) transformer_blocks.emplace_back(c);
  for (int i = 0; i < c.num_single_layers; ++i) single_transformer_blocks.emplace_back(c);
}

nn::RopeTables Transformer::rope(int text_length,
                                 const std::vector<nn::PositionId>& image_ids) const {
  std::vector<nn::PositionId> ids;
  for (int i = 0; i < text_length; ++i) ids.push_back({0, 0, 0, i});
  ids.insert(ids.end(), image_ids.begin(), image_ids.end());
  return nn::rope_tables(ids, config.axes_dims_rope, config.rope_theta);
}

Transformer::Conditioning Transformer::condition(const mx::array& timestep, mx::Dtype dtype) const {
  // The product is rounded to `dtype` on purpose: in bfloat16 a timestep of 967.38 becomes 968.
  const auto t = mx::astype(timestep, dtype) * mx::array(1000.0f, dtype);
  const auto sinusoid = nn::sinusoidal_embedding(t, config.timestep_guidance_channels);
  const auto activated = ops::silu(timestep_embedder(mx::astype(sinusoid, dtype)));
  return {.activated = activated,
          .image = double_stream_modulation_img(activated),
          .text = double_stream_modulation_txt(activated),
          .joined = single_stream_modulation(activated)};
}

mx::array Transformer::embed_image(const mx::array& latents) const {
  expect_last_axis(latents, config.in_channels, "latents");
  return x_embedder(latents);
}

mx::array Transformer::embed_text(const mx::array& prompt_embeds) const {
  expect_last_axis(prompt_embeds, config.joint_attention_dim, "prompt embeddings");
  return context_embedder(prompt_embeds);
}

mx::array Transformer::finish(const mx::array& joined, const Conditioning& conditioning,
                              int text_length) const {
  const auto image =
      mx::slice(joined, {0, text_length, 0}, {joined.shape(0), joined.shape(1), joined.shape(2)});
  const auto [scale, shift] = chunk<2>(norm_out(conditioning.activated));
  return proj_out(ops::modulated_layer_norm(image, scale, shift, config.eps));
}

mx::array Transformer::operator()(const mx::array& latents, const mx::array& prompt_embeds,
                                  const mx::array& timestep, const nn::RopeTables& rope) const {
  JointAttention::Streams x{.image = embed_image(latents), .text = embed_text(prompt_embeds)};
  const auto conditioning = condition(timestep, latents.dtype());
  for (const auto& block : transformer_blocks)
    x = block(x, conditioning.image, conditioning.text, rope);

  auto joined = join(x);
  for (const auto& block : single_transformer_blocks)
    joined = block(joined, conditioning.joined[0], rope);
  return finish(joined, conditioning, prompt_embeds.shape(1));
}

void Transformer::visit(nn::Visitor& visitor) {
  visitor.child("time_guidance_embed.timestep_embedder", timestep_embedder);
  visitor.child("double_stream_modulation_img", double_stream_modulation_img);
  visitor.child("double_stream_modulation_txt", double_stream_modulation_txt);
  visitor.child("single_stream_modulation", single_stream_modulation);
  visitor.linear("x_embedder", x_embedder);
  visitor.linear("context_embedder", context_embedder);
  visitor.children("transformer_blocks", transformer_blocks);
  visitor.children("single_transformer_blocks", single_transformer_blocks);
  visitor.linear("norm_out.linear", norm_out);
  visitor.linear("proj_out", proj_out);
}

mx::array join(const JointAttention::Streams& streams) {
  return mx::concatenate({streams.text, streams.image}, 1);
}

}  // namespace klein::flux2
