#include "klein/models/flux2/lora.h"

#include <limits>

#include <doctest/doctest.h>

#include "klein/core/error.h"
#include "klein/models/flux2/checkpoint.h"
#include "klein/models/flux2/lora_names.h"
#include "unit/io/support.h"
#include "unit/models/published_names.h"

namespace klein::flux2 {
namespace {

using io::test::error_of;
using io::test::message_of;
using io::test::TempDir;

struct Layer {
  std::string name;
  int in = 0, out = 0;
};

Checkpoint tiny() {
  return Checkpoint::read(
      {.model = std::filesystem::path(KLEIN_TEST_FIXTURES) / "models/tiny-distilled"});
}

std::filesystem::path write(const TempDir& folder, const std::vector<Layer>& layers) {
  std::unordered_map<std::string, mx::array> tensors;
  for (const auto& [name, in, out] : layers) {
    tensors.emplace(name + ".lora_A.weight", mx::ones({1, in}));
    tensors.emplace(name + ".lora_B.weight", mx::ones({out, 1}));
  }
  const auto path = folder / "x.safetensors";
  mx::save_safetensors(path.string(), tensors);
  return path;
}

TEST_SUITE("models/lora") {
  TEST_CASE("every linear layer of the published models is found in every spelling") {
    const auto text = test::qwen3(4096, 12288, true);
    for (const auto& sizes : {test::k4b, test::k9b}) {
      const auto model = test::diffusers_transformer(sizes);
      const LoraNames names(model, text);
      const auto check = [&](const weights::Shapes& file, const std::vector<std::string>& prefixes,
                             PartKind part) {
        for (const auto& [tensor, shape] : file) {
          if (shape.size() != 2) continue;
          const auto layer = tensor.substr(0, tensor.size() - 7);
          auto flat = layer;
          std::ranges::replace(flat, '.', '_');
          for (const auto& prefix : prefixes) {
            const auto name = prefix + (prefix.ends_with('_') ? flat : layer);
            CAPTURE(name);
            const auto* target = names.find(name);
            REQUIRE(target != nullptr);
            CHECK(target->part == part);
            std::int64_t rows = 0;
            for (const auto& weight : target->weights)
              rows += (part == PartKind::transformer ? model : text).at(weight)[0];
            CHECK(rows == shape[0]);
          }
        }
      };
      const std::vector<std::string> prefixes = {"",
                                                 "transformer.",
                                                 "diffusion_model.",
                                                 "model.diffusion_model.",
                                                 "base_model.model.",
                                                 "base_model.model.transformer.",
                                                 "lora_unet_",
                                                 "lora_transformer_",
                                                 "lycoris_"};
      check(model, prefixes, PartKind::transformer);
      check(test::diffusers_transformer(sizes, /*mflux=*/true), prefixes, PartKind::transformer);
      check(test::bfl_transformer(sizes), prefixes, PartKind::transformer);
      auto layers = text;
      layers.erase("lm_head.weight");
      check(layers,
            {"", "text_encoder.", "base_model.model.", "text_encoders.qwen3_4b.transformer.",
             "text_encoders.qwen3_8b.transformer.", "lora_te_", "lora_te1_"},
            PartKind::text_encoder);
      CHECK(names.find("guidance_in.in_layer") == nullptr);
      CHECK(names.find("double_blocks.99.img_mlp.0") == nullptr);
      CHECK(names.find("transformer.") == nullptr);
      CHECK(names.find("") == nullptr);
    }
  }

  TEST_CASE("layers without a place are named in a warning") {
    const TempDir folder;
    const auto path = write(folder, {{"transformer.proj_out", 16, 128},
                                     {"transformer.transformer_blocks.7.attn.to_q", 16, 16},
                                     {"vae.decoder.conv_in", 4, 4}});
    const auto lora = read_lora(path, 1.0, tiny());
    CHECK(lora.transformer.size() == 1);
    CHECK(lora.warnings == std::vector<std::string>{
                               "the model has no place for 2 of 3 layers of x.safetensors: "
                               "transformer.transformer_blocks.7.attn.to_q, vae.decoder.conv_in"});
    CHECK(lora_warnings(tiny(), {.loras = {lora}}) == lora.warnings);
  }

  TEST_CASE("a LoRA that changes nothing, has other sizes or changes a layer twice is refused") {
    const TempDir folder;
    const auto refusal = [&](const std::vector<Layer>& layers) {
      const auto path = write(folder, layers);
      return message_of(folder, [&] { read_lora(path, 1.0, tiny()); });
    };
    CHECK(refusal({{"unet.down_blocks.0.to_q", 2, 2}, {"a\x1b", 2, 2}}) ==
          "expected a LoRA for FLUX.2 [klein], got one that changes none of its layers, with "
          "a\\x1b, unet.down_blocks.0.to_q: DIR/x.safetensors");
    CHECK(refusal(
              {{"single_blocks.0.linear2", 64, 16}, {"img_in", 128, 3072}, {"txt_in", 7680, 16}}) ==
          "expected a LoRA of the model's size, [16, 128] for img_in, got [3072, 128] and 1 more "
          "that differ: DIR/x.safetensors");
    CHECK(refusal({{"final_layer.linear", 16, 128}, {"transformer.proj_out", 16, 128}}) ==
          "expected one layer for proj_out.weight, got final_layer.linear and "
          "transformer.proj_out: DIR/x.safetensors");
    const auto path = write(folder, {{"img_in", 128, 16}});
    CHECK(message_of(folder, [&] {
            read_lora(path, std::numeric_limits<double>::infinity(), tiny());
          }) == "expected a finite scale for a LoRA, got inf: DIR/x.safetensors");
    CHECK(error_of([&] {
            read_lora(write(folder, {{"img_in", 128, 32}}), 1.0, tiny());
          }).hint() == "It was made for another model, such as Klein 9B instead of 4B.");
  }
}

}  // namespace
}  // namespace klein::flux2
