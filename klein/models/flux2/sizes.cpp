#include "klein/models/flux2/sizes.h"

#include <algorithm>
#include <string>
#include <vector>

#include <fmt/format.h>

#include "klein/core/error.h"

namespace klein::flux2 {
namespace {

/// Reads lengths of axes, by what they mean in linear layers, norms and convolutions.
struct Sizes {
  int rows(const std::string& name) const { return weights::side_of(tensors, name, 2, 0, where); }
  int columns(const std::string& name) const {
    return weights::side_of(tensors, name, 2, 1, where);
  }
  int length(const std::string& name) const { return weights::side_of(tensors, name, 1, 0, where); }
  int outputs(const std::string& name) const {
    return weights::side_of(tensors, name, 4, 0, where);
  }
  int inputs(const std::string& name) const { return weights::side_of(tensors, name, 4, 1, where); }
  int count(std::string_view prefix) const {
    const int n = weights::count_children(tensors, prefix, where);
    if (n == 0)
      throw Error(ErrorKind::shape,
                  fmt::format("expected tensors {}0, got none: {}", prefix, where),
                  "Part of the checkpoint is missing.");
    return n;
  }
  bool has(std::string_view name) const { return tensors.contains(name); }

  const weights::Shapes& tensors;
  std::string_view where;
};

void check_widths(const std::vector<int>& widths, int groups, const char* of,
                  std::string_view where) {
  for (const int width : widths)
    if (width % groups != 0)
      throw Error(ErrorKind::shape,
                  fmt::format("expected the {} to have widths that are multiples of {}, got {}: {}",
                              of, groups, width, where));
}

}  // namespace

TransformerConfig transformer_config_from(const weights::Shapes& tensors, std::string_view where) {
  const Sizes sizes{tensors, where};
  TransformerConfig c;
  c.num_layers = sizes.count("transformer_blocks.");
  c.num_single_layers = sizes.count("single_transformer_blocks.");
  c.in_channels = sizes.columns("x_embedder.weight");
  c.joint_attention_dim = sizes.columns("context_embedder.weight");
  c.timestep_guidance_channels =
      sizes.columns("time_guidance_embed.timestep_embedder.linear_1.weight");
  c.attention_head_dim = sizes.length("transformer_blocks.0.attn.norm_q.weight");
  const int dim = sizes.rows("x_embedder.weight");
  if (c.attention_head_dim % 8 != 0 || dim % c.attention_head_dim != 0)
    throw Error(ErrorKind::shape,
                fmt::format("expected x_embedder of whole heads, their width a multiple of 8, got "
                            "{} rows for heads of {}: {}",
                            dim, c.attention_head_dim, where));
  c.num_attention_heads = dim / c.attention_head_dim;
  c.axes_dims_rope.fill(c.attention_head_dim / 4);
  const int mlp = sizes.columns("transformer_blocks.0.ff.linear_out.weight");
  c.mlp_ratio = static_cast<float>(mlp) / static_cast<float>(dim);
  if (c.mlp_dim() != mlp || c.timestep_guidance_channels % 2 != 0)
    throw Error(ErrorKind::shape,
                fmt::format("expected even time channels and a whole ratio of the MLP's width to "
                            "the model's, got {}, {} and {}: {}",
                            c.timestep_guidance_channels, mlp, dim, where));
  return c;
}

VaeConfig vae_config_from(const weights::Shapes& tensors, std::string_view where) {
  const Sizes sizes{tensors, where};
  VaeConfig c;
  const int levels = sizes.count("encoder.down_blocks.");
  const int decoder_levels = sizes.count("decoder.up_blocks.");
  if (levels != decoder_levels || levels > 8)
    throw Error(ErrorKind::shape,
                fmt::format("expected 1 to 8 levels in the encoder and as many in the decoder, got "
                            "{} and {}: {}",
                            levels, decoder_levels, where));
  for (int i = 0; i < levels; ++i) {
    const auto width = [&](const char* blocks, int level) {
      return sizes.outputs(fmt::format("{}.{}.resnets.0.conv1.weight", blocks, level));
    };
    c.block_out_channels.push_back(width("encoder.down_blocks", i));
    c.decoder_block_out_channels.push_back(width("decoder.up_blocks", levels - 1 - i));
  }
  check_widths(c.block_out_channels, c.norm_num_groups, "encoder", where);
  check_widths(c.decoder_block_out_channels, c.norm_num_groups, "decoder", where);
  c.layers_per_block = sizes.count("encoder.down_blocks.0.resnets.");
  c.latent_channels = sizes.inputs("decoder.conv_in.weight");
  c.mid_block_add_attention = sizes.has("encoder.mid_block.attentions.0.to_q.weight");
  c.use_quant_conv = sizes.has("quant_conv.weight");
  c.use_post_quant_conv = sizes.has("post_quant_conv.weight");
  c.in_channels = sizes.inputs("encoder.conv_in.weight");
  c.out_channels = sizes.outputs("decoder.conv_out.weight");
  if (c.in_channels != 3 || c.out_channels != 3)
    throw Error(ErrorKind::unsupported,
                fmt::format("expected an autoencoder of RGB pictures, got one of {} channels in "
                            "and {} out: {}",
                            c.in_channels, c.out_channels, where));
  return c;
}

}  // namespace klein::flux2
