// One LoRA in every program's names, against the weights and the picture that diffusers and PEFT
// make of it.

#include "klein/models/flux2/lora.h"

#include <filesystem>

#include <doctest/doctest.h>

#include "klein/models/flux2/pipeline.h"
#include "klein/models/flux2/run_time_loras.h"
#include "klein/models/flux2/save.h"
#include "klein/tensor/random.h"
#include "klein/weights/adapters.h"
#include "klein/weights/fill.h"
#include "klein/weights/quantize.h"
#include "support/json.h"
#include "support/tensors.h"
#include "unit/io/support.h"

namespace klein {
namespace {

namespace fs = std::filesystem;
using flux2::PartKind;

constexpr float kMerged = 1e-6f;
constexpr float kPipelineFloat32 = 1e-4f;

fs::path lora_path(const std::string& name) {
  return fs::path(KLEIN_TEST_FIXTURES) / "lora" / name;
}

flux2::Checkpoint checkpoint(const std::string& name) {
  return flux2::Checkpoint::read({.model = fs::path(KLEIN_TEST_FIXTURES) / "models" / name});
}

const flux2::PartSource& source(const flux2::Checkpoint& model, PartKind part) {
  return part == PartKind::transformer ? model.transformer_source : model.text_encoder_source;
}

const mx::array& dense(const weights::WeightMap& map, const std::string& name) {
  return std::get<mx::array>(map.at(name));
}

/// Those of `expected` are as there, all others as they were.
void check_merged(const weights::WeightMap& got, const weights::WeightMap& base,
                  const weights::TensorMap& expected, const std::string& what) {
  float worst = 0.0f;
  std::size_t untouched = 0;
  for (const auto& [name, weight] : base) {
    CAPTURE(name);
    const auto& value = dense(got, name);
    if (const auto want = expected.find(name); want != expected.end()) {
      REQUIRE(value.shape() == want->second.shape());
      worst = std::max(worst, test::relative_error(value, want->second));
    } else {
      ++untouched;
      CHECK(mx::array_equal(value, std::get<mx::array>(weight)).item<bool>());
    }
  }
  CHECK(untouched + expected.size() == base.size());
  MESSAGE(what << ": relative error " << worst << " of at most " << kMerged);
  CHECK(worst <= kMerged);
}

struct Outputs {
  mx::array with_adapters, with_merged, plain;
};

/// A network with adapters, with the weights that others merged, and as it is.
template <typename Module, typename Run>
Outputs outputs(Module& module, const flux2::PartSource& from, const weights::AdapterMap& adapters,
                const weights::TensorMap& merged, const Run& run) {
  auto map = weights::weight_map(from.files, from.renaming);
  weights::fill(module, map, mx::float32, "base");
  auto plain = run();
  weights::set_adapters(module, adapters);
  auto with_adapters = run();
  for (const auto& [name, weight] : merged)
    if (const auto place = map.find(name); place != map.end()) place->second = weight;
  weights::fill(module, map, mx::float32, "merged");
  weights::set_adapters(module, {});
  return {with_adapters, run(), plain};
}

Outputs velocities(const flux2::Checkpoint& model, const flux2::Adapters& adapters,
                   const weights::TensorMap& merged) {
  flux2::Transformer transformer(model.transformer);
  constexpr int rows = 4, columns = 3, text = 7;
  std::vector<nn::PositionId> ids;
  for (int h = 0; h < rows; ++h)
    for (int w = 0; w < columns; ++w) ids.push_back({0, h, w, 0});
  const auto rope = transformer.rope(text, ids);
  const auto latents = torch_randn({1, rows * columns, model.transformer.in_channels}, 1);
  const auto prompt = torch_randn({1, text, model.transformer.joint_attention_dim}, 2);
  return outputs(transformer, model.transformer_source, adapters.transformer, merged, [&] {
    auto velocity = transformer(latents, prompt, mx::array({0.75f}), rope);
    mx::eval(velocity);
    return velocity;
  });
}

Outputs features(const flux2::Checkpoint& model, const flux2::Adapters& adapters,
                 const weights::TensorMap& merged) {
  qwen3::TextEncoder encoder(model.text_encoder, model.text_encoder_out_layers);
  const std::vector<qwen3::TokenRow> prompts{{.ids = {1, 2, 3, 4, 5, 0}, .length = 5}};
  return outputs(encoder, model.used_text_encoder_source(), adapters.text_encoder, merged, [&] {
    auto states = encoder(prompts);
    mx::eval(states);
    return states;
  });
}

TEST_SUITE("parity/lora") {
  TEST_CASE("every program's names give the weights that diffusers, PEFT and torch merge") {
    const auto model = checkpoint("tiny-distilled");
    const auto cases = test::fixture_json("lora/cases").at("cases");
    CHECK(cases.size() == 24);
    for (const auto& entry : cases) {
      const std::string file = entry.at("file"), expected = entry.at("expected");
      CAPTURE(file);
      const auto part =
          entry.at("part") == "transformer" ? PartKind::transformer : PartKind::text_encoder;
      const auto& from = source(model, part);
      const auto base = weights::weight_map(from.files, from.renaming);
      const auto lora = flux2::read_lora(lora_path(file), 1.0, model);
      CHECK(lora.warnings.empty());
      auto map = base;
      flux2::merge(map, {lora}, from, {});
      check_merged(map, base, test::fixture("lora/" + expected).tensors,
                   file + " (" + entry.at("checked_with").get<std::string>() + ")");
    }
  }

  TEST_CASE("at run time every file gives what the weights that others merged give") {
    const auto model = checkpoint("tiny-distilled");
    const auto cases = test::fixture_json("lora/cases").at("cases");
    CHECK(cases.size() == 24);
    float worst = 0.0f;
    for (const auto& entry : cases) {
      const std::string file = entry.at("file"), expected = entry.at("expected");
      CAPTURE(file);
      flux2::RunTimeLoras loras(1);
      const auto adapters = loras.read({{lora_path(file).string()}}, model, mx::float32);
      const auto merged = test::fixture("lora/" + expected).tensors;
      const bool for_text = entry.at("part") != "transformer";
      CHECK(adapters.text_encoder.size() == (for_text ? merged.size() : 0));
      CHECK(adapters.transformer.size() == (for_text ? 0 : merged.size()));
      const auto [got, want, plain] =
          for_text ? features(model, adapters, merged) : velocities(model, adapters, merged);
      CHECK(test::relative_error(plain, want) > 1e-3f);
      const float error = test::relative_error(got, want);
      CHECK(error <= kPipelineFloat32);
      worst = std::max(worst, error);
    }
    MESSAGE("run time against merged by others: relative error " << worst << " of at most "
                                                                 << kPipelineFloat32);
    CHECK(worst <= kPipelineFloat32);
  }

  TEST_CASE("bfloat16 weights are rounded once") {
    const auto model = checkpoint("tiny-sharded");
    auto map =
        weights::weight_map(model.transformer_source.files, model.transformer_source.renaming);
    flux2::merge(map, {flux2::read_lora(lora_path("kohya.safetensors"), 1.0, model)},
                 model.transformer_source, {});
    for (const auto& [name, want] : test::fixture("lora/merged_bf16").tensors) {
      CHECK(dense(map, name).dtype() == mx::bfloat16);
      test::check_close(dense(map, name), want, test::kEqual, name);
    }
  }

  TEST_CASE("a picture with LoRAs for both networks equals diffusers'") {
    const auto model = checkpoint("tiny-distilled");
    const auto f = test::fixture("lora/picture");
    const io::test::TempDir folder;
    enum class Way { merged, saved, run_time };
    for (const auto way : {Way::merged, Way::saved, Way::run_time}) {
      const bool saved_before = way == Way::saved;
      const std::vector<flux2::Lora> loras = {
          flux2::read_lora(lora_path("diffusers.safetensors"), 0.8, model),
          flux2::read_lora(lora_path("text_kohya.safetensors"), 1.0, model)};
      if (saved_before)
        (void)flux2::save(model, {.dtype = mx::float32, .loras = loras},
                          {.folder = folder / "saved", .layout = SaveLayout::diffusers}, {});
      auto pipeline =
          saved_before ? flux2::Pipeline(flux2::Checkpoint::read({.model = folder / "saved"}),
                                         {.dtype = mx::float32})
          : way == Way::merged ? flux2::Pipeline(model, {.dtype = mx::float32, .loras = loras})
                               : flux2::Pipeline(model, {.dtype = mx::float32});
      GenerateRequest request{.prompt = "a red apple on a wooden table",
                              .width = 64,
                              .height = 48,
                              .steps = 4,
                              .seed = 42};
      if (way == Way::run_time)
        request.loras = {{lora_path("diffusers.safetensors").string(), 0.8},
                         {lora_path("text_kohya.safetensors").string(), 1.0}};
      const std::string name = way == Way::merged  ? "loaded with LoRAs"
                               : way == Way::saved ? "saved with LoRAs"
                                                   : "with LoRAs at run time";
      request.save_latents = {folder / (name + ".safetensors")};
      (void)pipeline.generate(request, {});
      const auto latents =
          mx::load_safetensors(request.save_latents.front().string()).first.at("latents");
      test::check_close(latents, f["latents_3"], kPipelineFloat32, name);
    }
  }

  TEST_CASE("LoRAs at run time equal PEFT's, alone, together and on packed weights") {
    for (const std::string name :
         {"lora_whole", "lora_half", "lora_two", "lora_packed_8", "lora_packed_fp8"}) {
      const auto run = test::fixture_json("edit/" + name);
      const auto f = test::fixture("edit/" + name);
      const io::test::TempDir folder;
      GenerateRequest request{.prompt = run.at("prompt"),
                              .width = run.at("width").get<int>(),
                              .height = run.at("height").get<int>(),
                              .steps = run.at("steps").get<int>(),
                              .seed = run.at("seed")};
      for (const auto& lora : run.at("loras"))
        request.loras.push_back(
            {(fs::path(KLEIN_TEST_FIXTURES) / lora.at("file")).string(), lora.at("scale")});
      request.save_latents = {folder / "latents.safetensors"};
      flux2::LoadOptions options{.dtype = mx::float32};
      if (run.contains("quantize_transformer"))
        options.quantize_transformer =
            quant::parse_target(run["quantize_transformer"].get<std::string>());
      (void)flux2::Pipeline(checkpoint(run.at("model")), options).generate(request, {});
      const auto latents =
          mx::load_safetensors(request.save_latents.front().string()).first.at("latents");
      test::check_close(latents, f["latents_1"], kPipelineFloat32, name);
    }
  }

  TEST_CASE("weights are packed after LoRAs are merged into them") {
    const auto model = checkpoint("tiny-distilled");
    const auto& from = model.text_encoder_source;
    const quant::Target target = quant::parse_target("mxfp8");
    const auto lora = flux2::read_lora(lora_path("text_bare.safetensors"), 1.0, model);
    auto dense_map = weights::weight_map(from.files, from.renaming), packed_map = dense_map;
    flux2::merge(dense_map, {lora}, from, {});
    flux2::merge(packed_map, {lora}, from, target);
    int packed = 0;
    for (const auto& delta : lora.text_encoder) {
      const auto& value = dense(dense_map, delta.weight);
      if (!weights::can_quantize(target, value.shape(1))) continue;
      ++packed;
      const auto want = weights::quantize(value, target);
      const auto& got = std::get<ops::PackedMatrix>(packed_map.at(delta.weight));
      CHECK(mx::array_equal(got.codes, want.codes).item<bool>());
      CHECK(mx::array_equal(*got.scales, *want.scales).item<bool>());
    }
    CHECK(packed == 4);
  }

  TEST_CASE("LoRAs add up, the same one twice too, and scales multiply") {
    const auto model = checkpoint("tiny-distilled");
    const auto& from = model.transformer_source;
    const auto base = weights::weight_map(from.files, from.renaming);
    auto map = base;
    const auto read = [&](double scale) {
      return flux2::read_lora(lora_path("bfl_bare.safetensors"), scale, model);
    };
    flux2::merge(map, {read(1.5), read(1.0), read(-1.5)}, from, {});
    check_merged(map, base, test::fixture("lora/merged").tensors, "1.5 + 1 - 1.5");
  }
}

}  // namespace
}  // namespace klein
