#include "klein/models/flux2/sizes.h"

#include <functional>

#include <doctest/doctest.h>

#include "klein/core/error.h"
#include "klein/models/qwen3/naming.h"
#include "unit/models/published_names.h"

namespace klein {
namespace {

using weights::Shapes;

std::pair<ErrorKind, std::string> refused(const std::function<void()>& act) {
  try {
    act();
  } catch (const Error& e) {
    return {e.kind(), e.what()};
  }
  return {ErrorKind::internal, "nothing was refused"};
}

TEST_SUITE("models/sizes") {
  TEST_CASE("the transformers' sizes are those of their config.json") {
    const auto small =
        flux2::transformer_config_from(test::diffusers_transformer(test::k4b), "file");
    CHECK(small.in_channels == 128);
    CHECK(small.num_layers == 5);
    CHECK(small.num_single_layers == 20);
    CHECK(small.attention_head_dim == 128);
    CHECK(small.num_attention_heads == 24);
    CHECK(small.joint_attention_dim == 7680);
    CHECK(small.timestep_guidance_channels == 256);
    CHECK(small.mlp_ratio == 3.0f);
    CHECK(small.axes_dims_rope == std::array{32, 32, 32, 32});
    CHECK(small.rope_theta == 2000.0);
    const auto large =
        flux2::transformer_config_from(test::diffusers_transformer(test::k9b), "file");
    CHECK(large.num_layers == 8);
    CHECK(large.num_single_layers == 24);
    CHECK(large.num_attention_heads == 32);
    CHECK(large.joint_attention_dim == 12288);
  }

  TEST_CASE("the autoencoders' sizes are those of their config.json, small decoder or not") {
    const auto whole = flux2::vae_config_from(test::vae(false), "file");
    CHECK(whole.latent_channels == 32);
    CHECK(whole.block_out_channels == std::vector{128, 256, 512, 512});
    CHECK(whole.decoder_block_out_channels == std::vector{128, 256, 512, 512});
    CHECK(whole.layers_per_block == 2);
    CHECK(whole.norm_num_groups == 32);
    CHECK(whole.mid_block_add_attention);
    CHECK(whole.use_quant_conv);
    CHECK(whole.use_post_quant_conv);
    const auto small = flux2::vae_config_from(test::vae(false, {96, 192, 384, 384}), "file");
    CHECK(small.block_out_channels == std::vector{128, 256, 512, 512});
    CHECK(small.decoder_block_out_channels == std::vector{96, 192, 384, 384});
  }

  TEST_CASE("the text encoders' sizes are those of their config.json") {
    const auto small = qwen3::config_from(test::qwen3(2560, 9728, false), "file");
    CHECK(small.vocab_size == 151936);
    CHECK(small.hidden_size == 2560);
    CHECK(small.intermediate_size == 9728);
    CHECK(small.num_hidden_layers == 36);
    CHECK(small.num_attention_heads == 32);
    CHECK(small.num_key_value_heads == 8);
    CHECK(small.head_dim == 128);
    CHECK(small.rms_norm_eps == 1e-6f);
    CHECK(small.rope_theta == 1e6f);
    CHECK(qwen3::config_from(test::qwen3(4096, 12288, false), "file").hidden_size == 4096);
  }

  TEST_CASE("a tensor that tells a size and is not there is named") {
    auto file = test::diffusers_transformer(test::k4b);
    file.erase("context_embedder.weight");
    CHECK(refused([&] { flux2::transformer_config_from(file, "a.safetensors"); }) ==
          std::pair{ErrorKind::shape,
                    std::string("expected a tensor context_embedder.weight, got none: "
                                "a.safetensors")});
    CHECK(refused([] { qwen3::config_from({}, "a.safetensors"); }).second ==
          "expected a tensor model.embed_tokens.weight, got none: a.safetensors");
    CHECK(refused([] { flux2::vae_config_from({}, "a.safetensors"); }).second ==
          "expected tensors encoder.down_blocks.0, got none: a.safetensors");
  }

  TEST_CASE("a block that is not there is named") {
    auto file = test::diffusers_transformer(test::k4b);
    std::erase_if(file, [](const auto& t) { return t.first.starts_with("transformer_blocks.3."); });
    CHECK(refused([&] { flux2::transformer_config_from(file, "a.safetensors"); }) ==
          std::pair{ErrorKind::shape,
                    std::string("expected transformer_blocks.0 to 4, got none of number 3: "
                                "a.safetensors")});
  }

  TEST_CASE("shapes that cannot work together are refused") {
    auto file = test::diffusers_transformer(test::k4b);
    file["transformer_blocks.0.attn.norm_q.weight"] = {100};
    CHECK(
        refused([&] { flux2::transformer_config_from(file, "a.safetensors"); }).second ==
        "expected x_embedder of whole heads, their width a multiple of 8, got 3072 rows for heads "
        "of 100: a.safetensors");
    file = test::diffusers_transformer(test::k4b);
    file["x_embedder.weight"] = {3072, 0};
    CHECK(refused([&] { flux2::transformer_config_from(file, "a.safetensors"); }).second ==
          "expected x_embedder.weight to have 2 axes of 1 to 16777216, got [3072, 0]: "
          "a.safetensors");
    file["x_embedder.weight"] = {3072};
    CHECK(refused([&] { flux2::transformer_config_from(file, "a.safetensors"); }).second ==
          "expected x_embedder.weight to have 2 axes of 1 to 16777216, got [3072]: a.safetensors");

    auto text = test::qwen3(2560, 9728, false);
    text["model.layers.0.self_attn.k_proj.weight"] = {1000, 2560};
    CHECK(refused([&] { qwen3::config_from(text, "a.gguf"); }).second ==
          "expected q_proj and k_proj of whole heads of even width, the first of a multiple of the "
          "second's, got 4096 and 1000 rows for heads of 128: a.gguf");

    auto vae = test::vae(false);
    vae["decoder.up_blocks.3.resnets.0.conv1.weight"] = {100, 256, 3, 3};
    CHECK(refused([&] { flux2::vae_config_from(vae, "ae.safetensors"); }).second ==
          "expected the decoder to have widths that are multiples of 32, got 100: ae.safetensors");
    vae = test::vae(false);
    vae["encoder.conv_in.weight"] = {128, 4, 3, 3};
    CHECK(refused([&] { flux2::vae_config_from(vae, "ae.safetensors"); }) ==
          std::pair{ErrorKind::unsupported,
                    std::string("expected an autoencoder of RGB pictures, got one of 4 channels in "
                                "and 3 out: ae.safetensors")});
    vae = test::vae(false);
    std::erase_if(vae, [](const auto& t) { return t.first.starts_with("decoder.up_blocks.3."); });
    CHECK(refused([&] { flux2::vae_config_from(vae, "ae.safetensors"); }).second ==
          "expected 1 to 8 levels in the encoder and as many in the decoder, got 4 and 3: "
          "ae.safetensors");
  }
}

}  // namespace
}  // namespace klein
