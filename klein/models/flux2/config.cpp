#include "klein/models/flux2/config.h"

#include <algorithm>
#include <cstdint>
#include <numeric>
#include <string>

#include <fmt/format.h>

#include "klein/core/error.h"
#include "klein/io/config_fields.h"
#include "klein/io/json.h"

namespace klein::flux2 {
namespace {

/// Every level must split into groups, and a size of 0 or below would only fail much later.
void check_widths(const io::JsonReader& json, const char* key, const std::vector<int>& widths,
                  int groups) {
  if (widths.empty() || widths.size() > 8) json.fail(key, "must list 1 to 8 widths");
  for (const int width : widths)
    if (width < 1 || width > 65536 || width % groups != 0)
      throw Error(ErrorKind::shape,
                  fmt::format("{}: expected `{}` to be multiples of norm_num_groups {}, got {}",
                              json.where(), key, groups, width));
}

}  // namespace

TransformerConfig TransformerConfig::from_json(const io::JsonReader& json) {
  TransformerConfig c;
  io::require_size(json, "in_channels", c.in_channels);
  io::require_size(json, "num_layers", c.num_layers);
  io::require_size(json, "num_single_layers", c.num_single_layers);
  io::require_size(json, "attention_head_dim", c.attention_head_dim);
  io::require_size(json, "num_attention_heads", c.num_attention_heads);
  io::require_size(json, "joint_attention_dim", c.joint_attention_dim);
  json.maybe("timestep_guidance_channels", c.timestep_guidance_channels);
  json.maybe("mlp_ratio", c.mlp_ratio);
  json.maybe("axes_dims_rope", c.axes_dims_rope);
  json.maybe("rope_theta", c.rope_theta);
  json.maybe("eps", c.eps);

  int patch_size = 1, out_channels = c.in_channels;
  bool guidance_embeds = true;  // diffusers' default: a file without the key is not a Klein
  json.maybe("patch_size", patch_size);
  json.maybe("out_channels", out_channels);
  json.maybe("guidance_embeds", guidance_embeds);
  if (patch_size != 1) io::refuse(json, "patch_size", "1");
  if (out_channels != c.in_channels) io::refuse(json, "out_channels", "as many as in_channels");
  if (guidance_embeds)
    io::refuse(json, "guidance_embeds", "false: FLUX.2 Klein has none, dev does");

  io::expect_heads(json, c.num_attention_heads, c.attention_head_dim);
  const auto rope_dims =
      std::accumulate(c.axes_dims_rope.begin(), c.axes_dims_rope.end(), std::int64_t{0});
  if (rope_dims != c.attention_head_dim ||
      std::ranges::any_of(c.axes_dims_rope, [](int dims) { return dims < 0 || dims % 2 != 0; }))
    throw Error(ErrorKind::shape,
                fmt::format("{}: expected even axes_dims_rope that sum to attention_head_dim {}, "
                            "got [{}, {}, {}, {}]",
                            json.where(), c.attention_head_dim, c.axes_dims_rope[0],
                            c.axes_dims_rope[1], c.axes_dims_rope[2], c.axes_dims_rope[3]));
  if (!(c.mlp_ratio > 0.0f && c.mlp_ratio < 64.0f) || c.mlp_dim() < 1 || c.mlp_dim() > io::kMaxSize)
    json.fail("mlp_ratio", "is out of range");
  if (c.timestep_guidance_channels < 2 || c.timestep_guidance_channels % 2 != 0)
    json.fail("timestep_guidance_channels", "must be even and positive");
  return c;
}

VaeConfig VaeConfig::from_json(const io::JsonReader& json) {
  VaeConfig c;
  io::require_size(json, "latent_channels", c.latent_channels);
  json.require("block_out_channels", c.block_out_channels);
  io::require_size(json, "layers_per_block", c.layers_per_block);
  json.maybe("in_channels", c.in_channels);
  json.maybe("out_channels", c.out_channels);
  json.maybe("decoder_block_out_channels", c.decoder_block_out_channels);
  json.maybe("norm_num_groups", c.norm_num_groups);
  json.maybe("mid_block_add_attention", c.mid_block_add_attention);
  json.maybe("use_quant_conv", c.use_quant_conv);
  json.maybe("use_post_quant_conv", c.use_post_quant_conv);
  json.maybe("batch_norm_eps", c.batch_norm_eps);
  json.maybe("sample_size", c.sample_size);
  if (c.decoder_block_out_channels.empty()) c.decoder_block_out_channels = c.block_out_channels;

  std::string activation = "silu";
  std::array<int, 2> patch_size = {2, 2};
  json.maybe("act_fn", activation);
  json.maybe("patch_size", patch_size);
  if (activation != "silu") io::refuse(json, "act_fn", "silu");
  if (patch_size != std::array{2, 2}) io::refuse(json, "patch_size", "[2, 2]");
  if (c.in_channels != 3 || c.out_channels != 3) io::refuse(json, "in_channels", "RGB pictures");
  if (c.norm_num_groups < 1) json.fail("norm_num_groups", "must be positive");
  check_widths(json, "block_out_channels", c.block_out_channels, c.norm_num_groups);
  check_widths(json, "decoder_block_out_channels", c.decoder_block_out_channels, c.norm_num_groups);
  if (c.decoder_block_out_channels.size() != c.block_out_channels.size())
    throw Error(ErrorKind::shape,
                fmt::format("{}: expected as many decoder widths as encoder widths, got {} and {}",
                            json.where(), c.decoder_block_out_channels.size(),
                            c.block_out_channels.size()));
  return c;
}

}  // namespace klein::flux2
