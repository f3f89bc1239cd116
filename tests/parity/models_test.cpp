// The networks against diffusers and transformers, on tiny random weights.

#include <cmath>
#include <map>
#include <optional>

#include <doctest/doctest.h>

#include "klein/io/json.h"
#include "klein/models/flux2/latents.h"
#include "klein/models/flux2/transformer.h"
#include "klein/models/flux2/vae.h"
#include "klein/models/qwen3/text_encoder.h"
#include "klein/ops/elementwise.h"
#include "support/json.h"
#include "support/tensors.h"

namespace klein {
namespace {

using test::check_close;
using test::integers;
using test::nhwc;
using test::position_ids;

struct Case {
  test::Fixture f;
  mx::Dtype dtype;
  float tolerance;
};

/// A fixture in both precisions, or in float32 alone where no tolerance is given for bfloat16.
std::vector<Case> cases(const std::string& name, std::optional<float> bfloat16_tolerance) {
  std::vector<Case> both{{test::fixture(name), mx::float32, test::kFloat32}};
  if (bfloat16_tolerance)
    both.push_back({test::fixture(name + "_bf16"), mx::bfloat16, *bfloat16_tolerance});
  return both;
}

int groups_of(const std::string& name) {
  return test::fixture_json(name).at("groups");
}

template <typename Config>
Config config_of(const std::string& name) {
  const auto json = test::fixture_json(name);
  return Config::from_json({json, name});
}

/// The fixture's block configs lack what a block does not need.
flux2::TransformerConfig block_config(const std::string& name) {
  auto json = test::fixture_json(name);
  for (const char* key : {"num_layers", "num_single_layers", "in_channels", "joint_attention_dim"})
    json.emplace(key, 1);
  json["guidance_embeds"] = false;
  return flux2::TransformerConfig::from_json({json, name});
}

nn::RopeTables block_rope(const test::Fixture& f, const flux2::TransformerConfig& config) {
  auto ids = position_ids(f["txt_ids"]);
  for (const auto& id : position_ids(f["img_ids"])) ids.push_back(id);
  return nn::rope_tables(ids, config.axes_dims_rope, config.rope_theta);
}

std::vector<flux2::ModulationPart> parts(const mx::array& modulation) {
  const auto chunks = mx::split(modulation, 6, -1);
  return {{.shift = chunks[0], .scale = chunks[1], .gate = chunks[2]},
          {.shift = chunks[3], .scale = chunks[4], .gate = chunks[5]}};
}

TEST_SUITE("parity/models") {
  TEST_CASE("a double-stream block equals diffusers") {
    const auto config = block_config("flux2/double_block");
    for (const auto& c : cases("flux2/double_block", 1.5e-2f)) {
      auto f = c.f;
      flux2::DoubleBlock block(config);
      test::fill(block, f, c.dtype);
      const auto result =
          block({.image = f["hidden_states"], .text = f["encoder_hidden_states"]},
                parts(f["temb_mod_img"]), parts(f["temb_mod_txt"]), block_rope(f, config));
      check_close(result.image, f["output_hidden_states"], c.tolerance, f.name + " image");
      check_close(result.text, f["output_encoder_hidden_states"], c.tolerance, f.name + " text");
    }
  }

  TEST_CASE("a single-stream block equals diffusers") {
    const auto config = block_config("flux2/single_block");
    for (const auto& c : cases("flux2/single_block", 1.5e-2f)) {
      flux2::SingleBlock block(config);
      test::fill(block, c.f, c.dtype);
      const auto [shift, scale, gate] = chunk<3>(c.f["temb_mod"]);
      check_close(block(c.f["hidden_states"], {.shift = shift, .scale = scale, .gate = gate},
                        block_rope(c.f, config)),
                  c.f["output"], c.tolerance, c.f.name);
    }
  }

  TEST_CASE("the whole transformer equals diffusers") {
    const std::map<std::string, std::optional<float>> tolerances = {
        {"flux2/transformer_a", 1.5e-2f}, {"flux2/transformer_b", std::nullopt}};
    for (const auto& [name, tolerance] : tolerances) {
      const auto config = config_of<flux2::TransformerConfig>(name);
      for (const auto& c : cases(name, tolerance)) {
        const auto& f = c.f;
        flux2::Transformer transformer(config);
        test::fill(transformer, f, c.dtype);
        const auto rope = transformer.rope(f["txt_ids"].shape(0), position_ids(f["img_ids"]));
        for (const std::string i : {"0", "1"})
          check_close(
              transformer(f["hidden_states"], f["encoder_hidden_states"], f["timestep_" + i], rope),
              f["output_" + i], c.tolerance, f.name + " timestep " + i);
        check_close(transformer(f["batch_hidden_states"], f["batch_encoder_hidden_states"],
                                f["batch_timestep"], rope),
                    f["batch_output"], c.tolerance, f.name + " batch");
      }
    }
  }

  TEST_CASE("the text encoder equals transformers, padding included") {
    const auto config = config_of<qwen3::TextEncoderConfig>("qwen3/text_encoder");
    for (const auto& c : cases("qwen3/text_encoder", 2e-2f)) {
      auto f = c.f;
      f.weights.clear();
      for (const auto& [key, value] : c.f.weights)
        f.weights.insert_or_assign("model." + key, value);
      const auto all_ids = integers(f["input_ids"]), mask = integers(f["attention_mask"]);
      std::vector<qwen3::TokenRow> rows;
      for (std::size_t row = 0; row < 2; ++row) {
        const auto begin = static_cast<std::ptrdiff_t>(row * 20);
        qwen3::TokenRow entry{.ids = {all_ids.begin() + begin, all_ids.begin() + begin + 20}};
        for (std::size_t i = 0; i < 20; ++i) entry.length += mask[row * 20 + i];
        rows.push_back(entry);
      }
      for (int layer = 0; layer <= 5; ++layer) {
        qwen3::TextEncoder encoder(config, {layer});
        auto part = f;
        std::erase_if(part.weights, [&](const auto& w) { return encoder.is_unused(w.first); });
        test::fill(encoder, part, c.dtype);
        check_close(encoder(rows), f["hidden_states_" + std::to_string(layer)], c.tolerance,
                    f.name + " layer " + std::to_string(layer));
      }
      qwen3::TextEncoder encoder(config, {1, 2, 4});
      std::erase_if(f.weights, [&](const auto& w) { return encoder.is_unused(w.first); });
      test::fill(encoder, f, c.dtype);
      CHECK(encoder.out_features() == 96);
      check_close(encoder(rows), f["prompt_embeds"], c.tolerance, f.name + " prompt embeddings");
    }
  }

  TEST_CASE("parts of the autoencoder equal diffusers") {
    for (const auto& c : cases("vae/resnet", 2e-3f)) {
      flux2::ResnetBlock block(16, 16, groups_of("vae/resnet"));
      test::fill(block, c.f, c.dtype);
      check_close(block(nhwc(c.f["input"])), nhwc(c.f["output"]), c.tolerance, c.f.name);
    }
    for (const auto& c : cases("vae/resnet_shortcut", 2e-3f)) {
      flux2::ResnetBlock block(8, 12, groups_of("vae/resnet_shortcut"));
      test::fill(block, c.f, c.dtype);
      check_close(block(nhwc(c.f["input"])), nhwc(c.f["output"]), c.tolerance, c.f.name);
    }
    for (const auto& c : cases("vae/attention", 8e-3f)) {
      flux2::VaeAttention block(16, groups_of("vae/attention"));
      test::fill(block, c.f, c.dtype);
      check_close(block(nhwc(c.f["input"])), nhwc(c.f["output"]), c.tolerance, c.f.name);
    }
    for (const auto& c : cases("vae/mid_block", 2e-2f)) {
      flux2::MidBlock block(16, groups_of("vae/mid_block"), /*with_attention=*/true);
      test::fill(block, c.f, c.dtype);
      check_close(block(nhwc(c.f["input"])), nhwc(c.f["output"]), c.tolerance, c.f.name);
    }
  }

  TEST_CASE("the autoencoder equals diffusers in both directions") {
    const std::map<std::string, std::optional<float>> tolerances = {
        {"vae/autoencoder_a", 4e-2f}, {"vae/autoencoder_b", std::nullopt}};
    for (const auto& [name, tolerance] : tolerances) {
      const auto config = config_of<flux2::VaeConfig>(name);
      for (const auto& c : cases(name, tolerance)) {
        auto f = c.f;
        f.weights.erase("bn.num_batches_tracked");
        flux2::Vae vae(config);
        test::fill(vae, f, c.dtype);
        check_close(vae.encode(nhwc(f["image"])), nhwc(f["mean"]), c.tolerance, f.name + " mean");
        check_close(vae.decode(nhwc(f["latents"])), nhwc(f["decoded"]), c.tolerance,
                    f.name + " decoded");
      }
    }
  }

  TEST_CASE("packing and the latent statistics equal diffusers") {
    for (const auto& c : cases("vae/latents", 0.0f)) {
      const auto& f = c.f;
      flux2::VaeConfig config;
      config.latent_channels = 32;
      config.block_out_channels = config.decoder_block_out_channels = {4, 4, 4, 4};
      config.layers_per_block = 1;
      config.norm_num_groups = 1;
      flux2::Vae vae(config);
      vae.running_mean = f.weights.at("bn.running_mean");
      vae.running_var = f.weights.at("bn.running_var");

      const auto grid = [](const mx::array& channels_first) {
        return flux2::tokens_from_grid(channels_first);
      };
      const auto packed = flux2::pack_latents(nhwc(f["latents"]));
      CHECK(mx::array_equal(packed, grid(f["patchified"])).item<bool>());
      CHECK(mx::array_equal(flux2::unpack_latents(packed, 3, 5), nhwc(f["latents"])).item<bool>());
      check_close(vae.normalize(packed), grid(f["normalised"]), c.tolerance, f.name + " normalise");
      check_close(vae.denormalize(grid(f["normalised"])), grid(f["denormalised"]), c.tolerance,
                  f.name + " denormalise");
      CHECK(flux2::image_position_ids(3, 5) == position_ids(f["ids"]));
    }
  }
}

}  // namespace
}  // namespace klein
