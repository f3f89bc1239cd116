#include "klein/models/flux2/contents.h"

#include <doctest/doctest.h>

#include "klein/core/error.h"
#include "unit/models/published_names.h"

namespace klein::flux2 {
namespace {

using weights::Convention;
using weights::Shapes;

struct Refusal {
  ErrorKind kind = ErrorKind::internal;
  std::string message, hint;
};

Refusal refused(const Shapes& tensors) {
  try {
    find_parts(tensors, "x.safetensors");
  } catch (const Error& e) {
    return {e.kind(), e.what(), e.hint()};
  }
  return {};
}

Shapes joined(std::initializer_list<Shapes> lists) {
  Shapes all;
  for (const auto& list : lists) all.insert(list.begin(), list.end());
  return all;
}

TEST_SUITE("models/contents") {
  TEST_CASE("every published file is told by its names alone") {
    struct Case {
      Shapes tensors;
      PartKind kind;
      Convention convention;
      const char* prefix;
    };
    auto mflux_text = test::qwen3(2560, 9728, false, "");
    mflux_text["rotary_emb.inv_freq"] = {64};
    const std::vector<Case> cases{
        {test::bfl_transformer(test::k4b), PartKind::transformer, Convention::bfl, ""},
        {test::bfl_transformer(test::k9b, "model.diffusion_model."), PartKind::transformer,
         Convention::bfl, "model.diffusion_model."},
        {test::diffusers_transformer(test::k4b), PartKind::transformer, Convention::diffusers, ""},
        {test::diffusers_transformer(test::k4b, true), PartKind::transformer, Convention::mflux,
         ""},
        {test::vae(false), PartKind::vae, Convention::diffusers, ""},
        {test::vae(true), PartKind::vae, Convention::bfl, ""},
        {test::vae(true, {96, 192, 384, 384}, "first_stage_model."), PartKind::vae, Convention::bfl,
         "first_stage_model."},
        {test::mflux_vae(), PartKind::vae, Convention::mflux, ""},
        {test::qwen3(2560, 9728, false), PartKind::text_encoder, Convention::transformers, ""},
        {test::qwen3(2560, 9728, false, ""), PartKind::text_encoder, Convention::transformers, ""},
        {test::qwen3(2560, 9728, false, "qwen3_4b.transformer.model."), PartKind::text_encoder,
         Convention::transformers, "qwen3_4b.transformer."},
        {mflux_text, PartKind::text_encoder, Convention::mflux, ""},
        {test::qwen3_gguf(4096, 12288, true), PartKind::text_encoder, Convention::llama_cpp, ""},
    };
    for (const auto& c : cases) {
      const auto parts = find_parts(c.tensors, "x.safetensors");
      REQUIRE(parts.size() == 1);
      CHECK(parts[0].kind == c.kind);
      CHECK(parts[0].convention == c.convention);
      CHECK(parts[0].prefix == c.prefix);
      CHECK(parts[0].tensors.size() == c.tensors.size());
    }
  }

  TEST_CASE("a checkpoint of ComfyUI holds three parts") {
    auto all =
        joined({test::bfl_transformer(test::k4b, "model.diffusion_model."),
                test::vae(true, {128, 256, 512, 512}, "vae."),
                test::qwen3(2560, 9728, false, "text_encoders.qwen3_4b.transformer.model.")});
    all["text_encoders.qwen3_4b.logit_scale"] = {};
    const auto parts = find_parts(all, "x.safetensors");
    REQUIRE(parts.size() == 3);
    CHECK(parts[0].kind == PartKind::transformer);
    CHECK(parts[0].tensors.size() == 149);
    CHECK(parts[1].kind == PartKind::text_encoder);
    CHECK(parts[1].prefix == "text_encoders.qwen3_4b.transformer.");
    CHECK(parts[1].tensors.size() == 399);
    CHECK(renaming(parts[1], "x.safetensors").unused ==
          std::vector<std::string>{"text_encoders.qwen3_4b.logit_scale"});
    CHECK(parts[2].kind == PartKind::vae);
    CHECK(parts[2].prefix == "vae.");
    CHECK(parts[2].tensors.size() == 251);
  }

  TEST_CASE("a part without a prefix does not claim the others' tensors") {
    const auto parts = find_parts(
        joined({test::bfl_transformer(test::k4b), test::vae(true, {128, 256, 512, 512}, "vae.")}),
        "x.safetensors");
    REQUIRE(parts.size() == 2);
    CHECK(parts[0].tensors.size() == 149);
    CHECK(parts[1].tensors.size() == 251);
  }

  TEST_CASE("other models and adapters are refused by name") {
    auto dev = test::bfl_transformer({8, 48, 6144, 15360});
    CHECK(refused(dev).message ==
          "expected weights of FLUX.2 [klein], got FLUX.2 [dev], which has "
          "single_blocks.47.linear1.weight: x.safetensors");
    dev["guidance_in.in_layer.weight"] = {6144, 256};
    CHECK(refused(dev).message ==
          "expected weights of FLUX.2 [klein], got FLUX.2 [dev] or FLUX.1 [dev], which has "
          "guidance_in.in_layer.weight: x.safetensors");
    auto vae = test::vae(true);
    std::erase_if(vae, [](const auto& t) { return t.first.starts_with("bn."); });
    const auto other_vae = refused(vae);
    CHECK(other_vae.kind == ErrorKind::unsupported);
    CHECK(other_vae.message ==
          "expected weights of FLUX.2 [klein], got an autoencoder without bn.running_mean, as that "
          "of FLUX.1: x.safetensors");
    CHECK(other_vae.hint == "FLUX.2's autoencoder is ae.safetensors or flux2-vae.safetensors.");

    const std::vector<std::pair<std::string, std::string>> names{
        {"diffusion_model.single_blocks.0.linear1.lora_A.weight", "a LoRA"},
        {"lora_unet_single_blocks_0_linear1.lora_up.weight", "a LoRA"},
        {"diffusion_model.single_blocks.0.linear1.lokr_w1", "a LoKr adapter"},
        {"time_guidance_embed.guidance_embedder.linear_1.weight", "FLUX.2 [dev]"},
        {"double_blocks.0.img_mod.lin.weight", "FLUX.1"},
        {"single_transformer_blocks.0.norm.linear.weight", "FLUX.1"},
        {"conditioner.embedders.0.transformer.text_model.encoder.layers.0.mlp.fc1.weight",
         "a CLIP text encoder"},
        {"model.diffusion_model.label_emb.0.0.weight", "Stable Diffusion XL"},
        {"model.diffusion_model.input_blocks.0.0.weight", "Stable Diffusion"},
        {"joint_blocks.0.x_block.attn.qkv.weight", "Stable Diffusion 3"},
        {"encoder.block.0.layer.0.SelfAttention.q.weight", "a T5 text encoder"},
        {"model.layers.0.self_attn.q_proj.weight", "a language model other than Qwen3"},
        {"blk.0.attn_q.weight", "a language model other than Qwen3"},
        {"up.0.block.0.conv1.weight", "a decoder without its encoder"},
    };
    for (const auto& [name, what] : names) {
      const auto refusal = refused({{name, {4, 4}}});
      CHECK(refusal.kind == ErrorKind::unsupported);
      CHECK(refusal.message == "expected weights of FLUX.2 [klein], got " + what + ", which has " +
                                   name + ": x.safetensors");
    }
    CHECK(refused({{"a.lora_A.weight", {4, 4}}}).hint ==
          "Give an adapter with --lora, beside the model it is for.");
  }

  TEST_CASE("what nothing is known of is refused with a name from it") {
    const auto refusal = refused({{"foo.weight", {1}}, {"bar.weight", {2}}});
    CHECK(refusal.kind == ErrorKind::unsupported);
    CHECK(refusal.message ==
          "expected weights of FLUX.2 [klein], got 2 tensors of an unknown model, the first "
          "bar.weight: x.safetensors");
    CHECK(refused({}).message ==
          "expected weights of FLUX.2 [klein], got no tensors: x.safetensors");
  }

  TEST_CASE("two networks of a kind and tensors of none are refused") {
    const auto twice = refused(
        joined({test::bfl_transformer(test::k4b, "a."), test::bfl_transformer(test::k4b, "b.")}));
    CHECK(twice.kind == ErrorKind::format);
    CHECK(twice.message ==
          "expected one transformer, got those of a.single_stream_modulation.lin.weight and "
          "b.single_stream_modulation.lin.weight: x.safetensors");
    auto more = test::bfl_transformer(test::k4b, "model.diffusion_model.");
    more["ema.decay"] = {};
    CHECK(refused(more).message ==
          "expected only tensors of FLUX.2 [klein], got 1 of another network, such as ema.decay: "
          "x.safetensors");
  }
}

}  // namespace
}  // namespace klein::flux2
