#include "klein/models/flux2/naming.h"

#include <array>
#include <span>
#include <string>

namespace klein::flux2 {
namespace {

using weights::Convention;
using weights::NameRule;

/// BFL calls the weights of its norms `scale`; other programs that write its names, `weight`.
constexpr std::array kBflTransformerRules = {
    NameRule{"img_in.weight", "x_embedder.weight"},
    NameRule{"txt_in.weight", "context_embedder.weight"},
    NameRule{"time_in.in_layer.weight", "time_guidance_embed.timestep_embedder.linear_1.weight"},
    NameRule{"time_in.out_layer.weight", "time_guidance_embed.timestep_embedder.linear_2.weight"},
    NameRule{"double_stream_modulation_img.lin.weight",
             "double_stream_modulation_img.linear.weight"},
    NameRule{"double_stream_modulation_txt.lin.weight",
             "double_stream_modulation_txt.linear.weight"},
    NameRule{"single_stream_modulation.lin.weight", "single_stream_modulation.linear.weight"},
    NameRule{"final_layer.linear.weight", "proj_out.weight"},
    NameRule{.from = "final_layer.adaLN_modulation.1.weight",
             .to = "norm_out.linear.weight",
             .swap_halves = true},
    NameRule{"double_blocks.#.img_attn.qkv.weight", "transformer_blocks.#.attn.to_q.weight", 0, 3},
    NameRule{"double_blocks.#.img_attn.qkv.weight", "transformer_blocks.#.attn.to_k.weight", 1, 3},
    NameRule{"double_blocks.#.img_attn.qkv.weight", "transformer_blocks.#.attn.to_v.weight", 2, 3},
    NameRule{"double_blocks.#.txt_attn.qkv.weight", "transformer_blocks.#.attn.add_q_proj.weight",
             0, 3},
    NameRule{"double_blocks.#.txt_attn.qkv.weight", "transformer_blocks.#.attn.add_k_proj.weight",
             1, 3},
    NameRule{"double_blocks.#.txt_attn.qkv.weight", "transformer_blocks.#.attn.add_v_proj.weight",
             2, 3},
    NameRule{"double_blocks.#.img_attn.proj.weight", "transformer_blocks.#.attn.to_out.0.weight"},
    NameRule{"double_blocks.#.txt_attn.proj.weight", "transformer_blocks.#.attn.to_add_out.weight"},
    NameRule{"double_blocks.#.img_attn.norm.query_norm.scale",
             "transformer_blocks.#.attn.norm_q.weight"},
    NameRule{"double_blocks.#.img_attn.norm.query_norm.weight",
             "transformer_blocks.#.attn.norm_q.weight"},
    NameRule{"double_blocks.#.img_attn.norm.key_norm.scale",
             "transformer_blocks.#.attn.norm_k.weight"},
    NameRule{"double_blocks.#.img_attn.norm.key_norm.weight",
             "transformer_blocks.#.attn.norm_k.weight"},
    NameRule{"double_blocks.#.txt_attn.norm.query_norm.scale",
             "transformer_blocks.#.attn.norm_added_q.weight"},
    NameRule{"double_blocks.#.txt_attn.norm.query_norm.weight",
             "transformer_blocks.#.attn.norm_added_q.weight"},
    NameRule{"double_blocks.#.txt_attn.norm.key_norm.scale",
             "transformer_blocks.#.attn.norm_added_k.weight"},
    NameRule{"double_blocks.#.txt_attn.norm.key_norm.weight",
             "transformer_blocks.#.attn.norm_added_k.weight"},
    NameRule{"double_blocks.#.img_mlp.0.weight", "transformer_blocks.#.ff.linear_in.weight"},
    NameRule{"double_blocks.#.img_mlp.2.weight", "transformer_blocks.#.ff.linear_out.weight"},
    NameRule{"double_blocks.#.txt_mlp.0.weight",
             "transformer_blocks.#.ff_context.linear_in.weight"},
    NameRule{"double_blocks.#.txt_mlp.2.weight",
             "transformer_blocks.#.ff_context.linear_out.weight"},
    NameRule{"single_blocks.#.linear1.weight",
             "single_transformer_blocks.#.attn.to_qkv_mlp_proj.weight"},
    NameRule{"single_blocks.#.linear2.weight", "single_transformer_blocks.#.attn.to_out.weight"},
    NameRule{"single_blocks.#.norm.query_norm.scale",
             "single_transformer_blocks.#.attn.norm_q.weight"},
    NameRule{"single_blocks.#.norm.query_norm.weight",
             "single_transformer_blocks.#.attn.norm_q.weight"},
    NameRule{"single_blocks.#.norm.key_norm.scale",
             "single_transformer_blocks.#.attn.norm_k.weight"},
    NameRule{"single_blocks.#.norm.key_norm.weight",
             "single_transformer_blocks.#.attn.norm_k.weight"},
};

constexpr std::array kMfluxTransformerRules = {
    NameRule{"time_guidance_embed.linear_1.weight",
             "time_guidance_embed.timestep_embedder.linear_1.weight"},
    NameRule{"time_guidance_embed.linear_2.weight",
             "time_guidance_embed.timestep_embedder.linear_2.weight"},
    NameRule{"transformer_blocks.#.attn.to_out.weight",
             "transformer_blocks.#.attn.to_out.0.weight"},
};

/// BFL numbers the decoder's levels from the picture, diffusers from the latents.
constexpr std::array kBflVaeRules = {
    NameRule{"bn.num_batches_tracked", ""},
    NameRule{"encoder.down.#.block.#.nin_shortcut.*",
             "encoder.down_blocks.#.resnets.#.conv_shortcut.*"},
    NameRule{"encoder.down.#.block.#.*", "encoder.down_blocks.#.resnets.#.*"},
    NameRule{"encoder.down.#.downsample.conv.*", "encoder.down_blocks.#.downsamplers.0.conv.*"},
    NameRule{"decoder.up.#.block.#.nin_shortcut.*",
             "decoder.up_blocks.~.resnets.#.conv_shortcut.*"},
    NameRule{"decoder.up.#.block.#.*", "decoder.up_blocks.~.resnets.#.*"},
    NameRule{"decoder.up.#.upsample.conv.*", "decoder.up_blocks.~.upsamplers.0.conv.*"},
    NameRule{"%.mid.block_1.*", "%.mid_block.resnets.0.*"},
    NameRule{"%.mid.block_2.*", "%.mid_block.resnets.1.*"},
    NameRule{"%.mid.attn_1.norm.*", "%.mid_block.attentions.0.group_norm.*"},
    NameRule{.from = "%.mid.attn_1.q.*", .to = "%.mid_block.attentions.0.to_q.*", .squeeze = true},
    NameRule{.from = "%.mid.attn_1.k.*", .to = "%.mid_block.attentions.0.to_k.*", .squeeze = true},
    NameRule{.from = "%.mid.attn_1.v.*", .to = "%.mid_block.attentions.0.to_v.*", .squeeze = true},
    NameRule{.from = "%.mid.attn_1.proj_out.*",
             .to = "%.mid_block.attentions.0.to_out.0.*",
             .squeeze = true},
    NameRule{"%.norm_out.*", "%.conv_norm_out.*"},
    NameRule{"encoder.quant_conv.*", "quant_conv.*"},
    NameRule{"decoder.post_quant_conv.*", "post_quant_conv.*"},
};

constexpr std::array kDiffusersVaeRules = {NameRule{"bn.num_batches_tracked", ""}};

constexpr std::array kMfluxVaeRules = {
    NameRule{"bn.num_batches_tracked", ""},
    NameRule{"%.mid_block.attentions.0.to_out.weight", "%.mid_block.attentions.0.to_out.0.weight"},
    NameRule{"%.mid_block.attentions.0.to_out.bias", "%.mid_block.attentions.0.to_out.0.bias"},
};

std::span<const NameRule> transformer_rules(Convention convention) {
  if (convention == Convention::bfl) return kBflTransformerRules;
  if (convention == Convention::mflux) return kMfluxTransformerRules;
  return {};
}

std::span<const NameRule> vae_rules(Convention convention) {
  if (convention == Convention::bfl) return kBflVaeRules;
  if (convention == Convention::mflux) return kMfluxVaeRules;
  return kDiffusersVaeRules;
}

}  // namespace

weights::Renaming transformer_renaming(const weights::Shapes& tensors, Convention convention,
                                       std::string_view prefix, std::string_view where) {
  return weights::rename(tensors, prefix, transformer_rules(convention), 0, where);
}

weights::Renaming vae_renaming(const weights::Shapes& tensors, Convention convention,
                               std::string_view prefix, std::string_view where) {
  const int levels = weights::count_children(tensors, std::string(prefix) + "decoder.up.", where);
  auto renaming = weights::rename(tensors, prefix, vae_rules(convention), levels, where);
  if (convention == Convention::mflux)
    for (auto& [name, origin] : renaming.origins)
      if (tensors.at(origin.source).size() == 4) origin.layout = weights::ConvLayout::channels_last;
  return renaming;
}

std::map<std::string, weights::Merged> transformer_tensors(const std::vector<std::string>& weights,
                                                           Convention convention) {
  return weights::unrename(weights, transformer_rules(convention), 0);
}

std::map<std::string, weights::Merged> vae_tensors(const std::vector<std::string>& weights,
                                                   Convention convention) {
  int levels = 0;
  for (const auto& name : weights)
    if (name.starts_with("decoder.up_blocks.") && name.ends_with(".resnets.0.norm1.weight"))
      ++levels;
  return weights::unrename(weights, vae_rules(convention), levels);
}

}  // namespace klein::flux2
