#include "klein/models/flux2/naming.h"

#include <doctest/doctest.h>

#include "klein/models/flux2/contents.h"
#include "klein/models/qwen3/naming.h"
#include "unit/models/published_names.h"

namespace klein {
namespace {

using weights::Convention;
using weights::Origin;
using weights::Renaming;
using weights::Shapes;

/// The shapes that the modules see of a file that holds one network.
Shapes canonical(const Shapes& file) {
  const auto parts = flux2::find_parts(file, "file");
  REQUIRE(parts.size() == 1);
  return renamed_shapes(renaming(parts[0], "file"), parts[0].tensors, "file");
}

/// Names that are in one map only.
std::vector<std::string> differences(const Shapes& a, const Shapes& b) {
  std::vector<std::string> names;
  for (const auto& [name, shape] : a)
    if (const auto found = b.find(name); found == b.end() || found->second != shape)
      names.push_back(name);
  for (const auto& [name, shape] : b)
    if (!a.contains(name)) names.push_back(name);
  return names;
}

TEST_SUITE("models/naming") {
  TEST_CASE("the lists of names in these tests are as long as the published files'") {
    CHECK(test::bfl_transformer(test::k4b).size() == 149);
    CHECK(test::diffusers_transformer(test::k4b).size() == 169);
    CHECK(test::diffusers_transformer(test::k9b).size() == 233);
    CHECK(test::qwen3(2560, 9728, false).size() == 398);
    CHECK(test::qwen3(4096, 12288, true).size() == 399);
    CHECK(test::vae(false).size() == 251);
    CHECK(test::vae(true).size() == 251);
    CHECK(test::mflux_vae().size() == 250);
  }

  TEST_CASE("every convention of a transformer gives diffusers' names and shapes") {
    for (const auto& sizes : {test::k4b, test::k9b}) {
      const auto expected = test::diffusers_transformer(sizes);
      CHECK(differences(canonical(expected), expected).empty());
      CHECK(differences(canonical(test::diffusers_transformer(sizes, /*mflux=*/true)), expected)
                .empty());
      CHECK(differences(canonical(test::bfl_transformer(sizes)), expected).empty());
      CHECK(differences(canonical(test::bfl_transformer(sizes, "model.diffusion_model.")), expected)
                .empty());
      CHECK(differences(canonical(test::bfl_transformer(sizes, "diffusion_model.")), expected)
                .empty());
    }
  }

  TEST_CASE("fused rows come apart in the order q, k, v, and shift and scale change places") {
    const auto names =
        flux2::transformer_renaming(test::bfl_transformer(test::k4b), Convention::bfl, "", "file");
    const auto& origins = names.origins;
    const std::string img = "double_blocks.4.img_attn.qkv.weight";
    const std::string txt = "double_blocks.4.txt_attn.qkv.weight";
    const std::string attn = "transformer_blocks.4.attn.";
    CHECK(origins.at(attn + "to_q.weight") == Origin{.source = img, .part = 0, .parts = 3});
    CHECK(origins.at(attn + "to_k.weight") == Origin{.source = img, .part = 1, .parts = 3});
    CHECK(origins.at(attn + "to_v.weight") == Origin{.source = img, .part = 2, .parts = 3});
    CHECK(origins.at(attn + "add_q_proj.weight") == Origin{.source = txt, .part = 0, .parts = 3});
    CHECK(origins.at(attn + "add_k_proj.weight") == Origin{.source = txt, .part = 1, .parts = 3});
    CHECK(origins.at(attn + "add_v_proj.weight") == Origin{.source = txt, .part = 2, .parts = 3});
    CHECK(origins.at("norm_out.linear.weight") ==
          Origin{.source = "final_layer.adaLN_modulation.1.weight", .swap_halves = true});
    CHECK(origins.at(attn + "norm_added_k.weight").source ==
          "double_blocks.4.txt_attn.norm.key_norm.scale");
    CHECK(names.unused.empty());
  }

  TEST_CASE("norms of BFL's names may be called weight") {
    auto file = test::bfl_transformer(test::k4b);
    for (const auto& [name, shape] : test::bfl_transformer(test::k4b))
      if (name.ends_with("_norm.scale")) {
        file.erase(name);
        file[name.substr(0, name.size() - 5) + "weight"] = shape;
      }
    CHECK(differences(canonical(file), test::diffusers_transformer(test::k4b)).empty());
  }

  TEST_CASE("every convention of an autoencoder gives diffusers' names and shapes") {
    auto expected = test::vae(/*bfl=*/false);
    expected.erase("bn.num_batches_tracked");
    CHECK(differences(canonical(test::vae(/*bfl=*/false)), expected).empty());
    CHECK(differences(canonical(test::vae(/*bfl=*/true)), expected).empty());
    CHECK(differences(canonical(test::mflux_vae()), expected).empty());
    for (const auto* prefix : {"first_stage_model.", "vae."})
      CHECK(
          differences(canonical(test::vae(true, {128, 256, 512, 512}, prefix)), expected).empty());

    auto small = test::vae(/*bfl=*/false, {96, 192, 384, 384});
    small.erase("bn.num_batches_tracked");
    CHECK(differences(canonical(test::vae(/*bfl=*/true, {96, 192, 384, 384})), small).empty());
  }

  TEST_CASE("the quantizing convolutions of an autoencoder may stand outside its halves") {
    auto file = test::vae(/*bfl=*/true);
    for (const std::string end : {"weight", "bias"}) {
      file["quant_conv." + end] = file.at("encoder.quant_conv." + end);
      file["post_quant_conv." + end] = file.at("decoder.post_quant_conv." + end);
      file.erase("encoder.quant_conv." + end);
      file.erase("decoder.post_quant_conv." + end);
    }
    auto expected = test::vae(/*bfl=*/false);
    expected.erase("bn.num_batches_tracked");
    CHECK(differences(canonical(file), expected).empty());
  }

  TEST_CASE("BFL's levels are counted from the picture, its attention is 1x1 convolutions") {
    const auto names = flux2::vae_renaming(test::vae(true), Convention::bfl, "", "file");
    CHECK(names.origins.at("decoder.up_blocks.0.resnets.2.conv1.weight").source ==
          "decoder.up.3.block.2.conv1.weight");
    CHECK(names.origins.at("decoder.up_blocks.3.resnets.0.conv_shortcut.weight").source ==
          "decoder.up.0.block.0.nin_shortcut.weight");
    CHECK(names.origins.at("encoder.mid_block.attentions.0.to_out.0.weight") ==
          Origin{.source = "encoder.mid.attn_1.proj_out.weight", .squeeze = true});
    CHECK_FALSE(names.origins.at("encoder.mid_block.attentions.0.to_out.0.bias").squeeze);
    CHECK(names.unused == std::vector<std::string>{"bn.num_batches_tracked"});
  }

  TEST_CASE("mflux's convolutions are channels-last, its matrices and norms as they were") {
    const auto names = flux2::vae_renaming(test::mflux_vae(), Convention::mflux, "", "file");
    CHECK(names.origins.at("encoder.conv_in.weight").layout == weights::ConvLayout::channels_last);
    CHECK(names.origins.at("encoder.mid_block.attentions.0.to_q.weight") ==
          Origin{.source = "encoder.mid_block.attentions.0.to_q.weight"});
  }

  TEST_CASE("every convention of the text encoder gives transformers' names and shapes") {
    for (const bool large : {false, true}) {
      const std::int64_t hidden = large ? 4096 : 2560, mlp = large ? 12288 : 9728;
      const auto expected = test::qwen3(hidden, mlp, /*head=*/false);
      CHECK(differences(canonical(test::qwen3(hidden, mlp, large)), expected).empty());
      CHECK(differences(canonical(test::qwen3_gguf(hidden, mlp, large)), expected).empty());
      auto mflux = test::qwen3(hidden, mlp, /*head=*/false, /*model=*/"");
      CHECK(differences(canonical(mflux), expected).empty());
      mflux["rotary_emb.inv_freq"] = {64};
      CHECK(differences(canonical(mflux), expected).empty());
      CHECK(differences(canonical(test::qwen3(hidden, mlp, false,
                                              "text_encoders.qwen3_4b.transformer.model.")),
                        expected)
                .empty());
    }
  }

  TEST_CASE("a name that no rule knows is kept for the loader to complain of") {
    auto file = test::bfl_transformer(test::k4b, "model.diffusion_model.");
    file["model.diffusion_model.double_blocks.0.img_attn.qkv.bias"] = {9216};
    CHECK(canonical(file).at("double_blocks.0.img_attn.qkv.bias") == weights::Shape{9216});
  }
}

}  // namespace
}  // namespace klein
