#include "klein/models/flux2/config_json.h"

#include <string>

#include <fmt/format.h>

namespace klein::flux2 {
namespace {

using Json = nlohmann::json;

/// The version of diffusers whose files these are like.
constexpr const char* kDiffusersVersion = "0.42.1";

/// The number that a person would write: 1e-06, not its nearest float in sixteen digits.
double short_number(float value) {
  return std::stod(fmt::format("{}", value));
}

}  // namespace

Json transformer_json(const TransformerConfig& c) {
  return {{"_class_name", "Flux2Transformer2DModel"},
          {"_diffusers_version", kDiffusersVersion},
          {"attention_head_dim", c.attention_head_dim},
          {"axes_dims_rope", c.axes_dims_rope},
          {"eps", short_number(c.eps)},
          {"guidance_embeds", false},
          {"in_channels", c.in_channels},
          {"joint_attention_dim", c.joint_attention_dim},
          {"mlp_ratio", short_number(c.mlp_ratio)},
          {"num_attention_heads", c.num_attention_heads},
          {"num_layers", c.num_layers},
          {"num_single_layers", c.num_single_layers},
          {"out_channels", nullptr},
          {"patch_size", 1},
          {"rope_theta", c.rope_theta},
          {"timestep_guidance_channels", c.timestep_guidance_channels}};
}

Json vae_json(const VaeConfig& c) {
  const auto levels = c.block_out_channels.size();
  Json json = {{"_class_name", "AutoencoderKLFlux2"},
               {"_diffusers_version", kDiffusersVersion},
               {"act_fn", "silu"},
               {"batch_norm_eps", short_number(c.batch_norm_eps)},
               {"batch_norm_momentum", 0.1},
               {"block_out_channels", c.block_out_channels},
               {"decoder_block_out_channels", nullptr},
               {"down_block_types", std::vector<std::string>(levels, "DownEncoderBlock2D")},
               {"in_channels", c.in_channels},
               {"latent_channels", c.latent_channels},
               {"layers_per_block", c.layers_per_block},
               {"mid_block_add_attention", c.mid_block_add_attention},
               {"norm_num_groups", c.norm_num_groups},
               {"out_channels", c.out_channels},
               {"patch_size", {2, 2}},
               {"sample_size", c.sample_size},
               {"up_block_types", std::vector<std::string>(levels, "UpDecoderBlock2D")},
               {"use_post_quant_conv", c.use_post_quant_conv},
               {"use_quant_conv", c.use_quant_conv}};
  if (c.decoder_block_out_channels != c.block_out_channels)
    json["decoder_block_out_channels"] = c.decoder_block_out_channels;
  return json;
}

Json text_encoder_json(const qwen3::TextEncoderConfig& c) {
  return {{"architectures", {"Qwen3ForCausalLM"}},
          {"attention_bias", false},
          {"attention_dropout", 0.0},
          {"dtype", "bfloat16"},
          {"head_dim", c.head_dim},
          {"hidden_act", "silu"},
          {"hidden_size", c.hidden_size},
          {"intermediate_size", c.intermediate_size},
          {"max_position_embeddings", 40960},
          {"model_type", "qwen3"},
          {"num_attention_heads", c.num_attention_heads},
          {"num_hidden_layers", c.num_hidden_layers},
          {"num_key_value_heads", c.num_key_value_heads},
          {"rms_norm_eps", short_number(c.rms_norm_eps)},
          {"rope_scaling", nullptr},
          {"rope_theta", c.rope_theta},
          {"sliding_window", nullptr},
          {"tie_word_embeddings", c.tie_word_embeddings},
          {"use_sliding_window", false},
          {"vocab_size", c.vocab_size}};
}

Json scheduler_json(const sampling::SchedulerConfig& c) {
  return {{"_class_name", "FlowMatchEulerDiscreteScheduler"},
          {"_diffusers_version", kDiffusersVersion},
          {"base_image_seq_len", 256},
          {"base_shift", 0.5},
          {"max_image_seq_len", 4096},
          {"max_shift", 1.15},
          {"num_train_timesteps", c.num_train_timesteps},
          {"shift", c.shift},
          {"shift_terminal", nullptr},
          {"time_shift_type", c.exponential_time_shift ? "exponential" : "linear"},
          {"use_dynamic_shifting", c.use_dynamic_shifting}};
}

Json model_index_json(const Checkpoint& c) {
  const bool kv = c.variant == Variant::kv;
  Json json = {{"_class_name", kv ? "Flux2KleinKVPipeline" : "Flux2KleinPipeline"},
               {"_diffusers_version", kDiffusersVersion},
               {"max_sequence_length", c.max_sequence_length},
               {"scheduler", {"diffusers", "FlowMatchEulerDiscreteScheduler"}},
               {"text_encoder", {"transformers", "Qwen3ForCausalLM"}},
               {"text_encoder_out_layers", c.text_encoder_out_layers},
               {"tokenizer", {"transformers", "Qwen2TokenizerFast"}},
               {"transformer", {"diffusers", "Flux2Transformer2DModel"}},
               {"vae", {"diffusers", "AutoencoderKLFlux2"}}};
  if (c.variant != Variant::base) json["is_distilled"] = true;
  if (c.num_inference_steps) json["num_inference_steps"] = *c.num_inference_steps;
  if (c.guidance_scale) json["guidance_scale"] = *c.guidance_scale;
  return json;
}

}  // namespace klein::flux2
