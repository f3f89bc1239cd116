// Whole pictures against diffusers: tiny checkpoints, every stage from token ids to pixels.

#include "klein/models/flux2/pipeline.h"

#include <filesystem>
#include <optional>

#include <doctest/doctest.h>

#include "klein/core/error.h"
#include "klein/models/flux2/latents.h"
#include "klein/sampling/guidance.h"
#include "klein/tokenizer/prompt_tokens.h"
#include "parity/pipelines.h"
#include "support/json.h"
#include "support/tensors.h"
#include "unit/io/support.h"

namespace klein {
namespace {

namespace fs = std::filesystem;
using test::kBfloat16Run;
using test::kFloat32Run;
using test::kPipelineFloat32;
using test::model;
using test::open_pipeline;
using test::picture_difference;
using test::position_ids;
using test::Tolerance;

GenerateRequest request_of(const nlohmann::json& run) {
  GenerateRequest request;
  request.prompt = run.at("prompts").at(0);
  request.seed = run.at("seeds").at(0);
  request.height = run.at("height");
  request.width = run.at("width");
  request.steps = run.at("steps");
  if (run.contains("guidance") && run.at("model") == "tiny-base")
    request.guidance = run["guidance"];
  if (run.contains("negative")) request.negative_prompt = run["negative"];
  if (run.contains("sigmas")) request.sigmas = run["sigmas"].get<std::vector<float>>();
  return request;
}

void check_run(const std::string& name, const std::string& fixture_name, mx::Dtype dtype,
               const Tolerance& tolerance, const std::string& model_name = {}) {
  CAPTURE(fixture_name);
  const auto run = test::fixture_json("pipeline/" + name);
  const auto f = test::fixture("pipeline/" + fixture_name);
  const io::test::TempDir folder;
  auto request = request_of(run);
  request.save_latents = {folder.path() / "latents.safetensors"};
  request.save_prompt_embeds = {folder.path() / "embeds.safetensors"};

  auto pipeline =
      open_pipeline(model_name.empty() ? run.at("model").get<std::string>() : model_name, dtype);
  const auto result = pipeline.generate(request, {});

  const auto saved = [](const fs::path& file, const char* tensor) {
    return mx::load_safetensors(file.string()).first.at(tensor);
  };
  test::check_close(saved(request.save_prompt_embeds.front(), "prompt_embeds"), f["prompt_embeds"],
                    tolerance.embeds, fixture_name + " prompt embeddings");
  test::check_close(saved(request.save_latents.front(), "latents"),
                    mx::astype(f["latents_" + std::to_string(result.steps - 1)], mx::float32),
                    tolerance.latents, fixture_name + " latents");
  REQUIRE(result.images.size() == 1);
  const auto [mean, worst] = picture_difference(result.images[0], f["image_u8"], 0);
  MESSAGE(fixture_name << ": picture differs by " << mean << " levels in the mean, " << worst
                       << " at most");
  CHECK(mean <= tolerance.mean_levels);
  CHECK(worst <= tolerance.worst_levels);
}

/// Weights of one part of a fixture: "transformer.", "vae.".
template <typename Module>
void fill_part(Module& module, const test::Fixture& f, const std::string& prefix) {
  test::Fixture part{.tensors = {}, .weights = {}, .name = f.name};
  for (const auto& [name, value] : f.weights)
    if (name.starts_with(prefix) && !name.ends_with("num_batches_tracked"))
      part.weights.insert_or_assign(name.substr(prefix.size()), value);
  test::fill(module, part, mx::float32);
}

TEST_SUITE("parity/pipeline") {
  TEST_CASE("the sixteen pixel values that diffusers publishes come out") {
    // diffusers tests/pipelines/flux2/test_pipeline_flux2_klein.py, test_image_input: one black
    // reference picture, two steps, guidance 4. Its own tolerance is 1e-4.
    const auto f = test::fixture("pipeline/published_slice");
    const auto run = test::fixture_json("pipeline/published_slice");
    flux2::Transformer transformer(
        flux2::TransformerConfig::from_json({run.at("transformer"), "transformer"}));
    flux2::Vae vae(flux2::VaeConfig::from_json({run.at("vae"), "vae"}));
    fill_part(transformer, f, "transformer.");
    fill_part(vae, f, "vae.");

    auto ids = position_ids(f["latent_ids"]);
    const int tokens = static_cast<int>(ids.size());
    for (const auto& id : position_ids(f["reference_ids"])) ids.push_back(id);
    const auto rope = transformer.rope(f["prompt_embeds"].shape(1), ids);
    const int steps = run.at("steps");
    const sampling::SchedulerConfig plain{.use_dynamic_shifting = false, .shift = 1.0f};
    const auto schedule = sampling::make_schedule(plain, sampling::linear_sigmas(steps), 0.0);

    auto latents = f["noise_tokens"];
    for (std::size_t i = 0; i < schedule.timesteps.size(); ++i) {
      const auto input = mx::concatenate({latents, f["reference_tokens"]}, 1);
      const auto t = mx::array({schedule.timesteps[i]}) / mx::array(1000.0f);
      const auto velocity = [&](const mx::array& prompt) {
        const auto all = transformer(input, prompt, t, rope);
        return mx::slice(all, {0, 0, 0}, {1, tokens, all.shape(2)});
      };
      latents = sampling::euler_step(
          latents,
          sampling::guide(velocity(f["prompt_embeds"]), velocity(f["negative_prompt_embeds"]),
                          run.at("guidance")),
          schedule.sigmas[i], schedule.sigmas[i + 1]);
      test::check_close(latents, f["latents_" + std::to_string(i)], kPipelineFloat32,
                        "published slice, step " + std::to_string(i));
    }
    const auto decoded = vae.decode(flux2::unpack_latents(vae.denormalize(latents), 4, 4));
    const auto half = mx::array(0.5f);
    auto image = mx::contiguous(mx::clip(decoded * half + half, mx::array(0.0f), mx::array(1.0f)));
    test::check_close(image, f["image"], kPipelineFloat32, "published slice, picture");
    const auto flat = mx::flatten(image);
    const int size = static_cast<int>(flat.size());
    const auto slice =
        mx::concatenate({mx::slice(flat, {0}, {8}), mx::slice(flat, {size - 8}, {size})}, 0);
    const float worst = mx::max(mx::abs(slice - f["published"])).item<float>();
    MESSAGE("published slice: largest difference " << worst << " of at most 1e-4");
    CHECK(worst <= 1e-4f);
  }

  TEST_CASE("a distilled picture equals diffusers at every stage") {
    check_run("distilled", "distilled", mx::float32, kFloat32Run);
    check_run("distilled", "distilled_bf16", mx::bfloat16, kBfloat16Run);
  }

  TEST_CASE("a sharded bfloat16 checkpoint draws the same picture") {
    check_run("distilled", "distilled_bf16", mx::bfloat16, kBfloat16Run, "tiny-sharded");
  }

  TEST_CASE("a picture with classifier-free guidance equals diffusers") {
    check_run("base_cfg", "base_cfg", mx::float32, kFloat32Run);
    check_run("base_cfg", "base_cfg_bf16", mx::bfloat16, kBfloat16Run);
    check_run("base_negative", "base_negative", mx::float32, kFloat32Run);
    check_run("base_guidance_one", "base_guidance_one", mx::float32, kFloat32Run);
  }

  TEST_CASE("own sigmas and unusual prompts equal diffusers") {
    for (const std::string name :
         {"custom_sigmas", "empty_prompt", "long_prompt", "unusual_prompt"})
      check_run(name, name, mx::float32, kFloat32Run);
  }

  TEST_CASE("token ids equal those of the pipeline's tokenizer") {
    for (const std::string name : {"distilled", "empty_prompt", "long_prompt", "unusual_prompt"}) {
      CAPTURE(name);
      const auto run = test::fixture_json("pipeline/" + name);
      const auto f = test::fixture("pipeline/" + name);
      auto want = mx::contiguous(mx::astype(f["input_ids"], mx::int32));
      auto mask = mx::contiguous(mx::astype(f["attention_mask"], mx::int32));
      mx::eval(want, mask);
      const auto tokenizer = tokenizer::Tokenizer::load(model("tiny-distilled") / "tokenizer");
      const auto tokens = tokenizer::encode_prompt(
          tokenizer, run.at("prompts").at(0).get<std::string>(), static_cast<int>(want.size()));
      CHECK(tokens.ids == std::vector<int>(want.data<int>(), want.data<int>() + want.size()));
      CHECK(tokens.attention_mask ==
            std::vector<int>(mask.data<int>(), mask.data<int>() + mask.size()));
    }
  }

  TEST_CASE("a batch of latents gives a picture each") {
    const auto run = test::fixture_json("pipeline/distilled_batch");
    const auto f = test::fixture("pipeline/distilled_batch");
    const io::test::TempDir folder;
    auto pipeline = open_pipeline("tiny-distilled", mx::float32);
    for (const int prompt : {0, 1}) {  // two pictures of each of two prompts
      auto request = request_of(run);
      request.prompt = run.at("prompts").at(static_cast<std::size_t>(prompt));
      request.latents = folder.path() / ("noise" + std::to_string(prompt) + ".safetensors");
      const auto noise = f["noise"];
      mx::save_safetensors(
          request.latents->string(),
          {{"latents", mx::contiguous(mx::slice(noise, {2 * prompt, 0, 0, 0},
                                                {2 * prompt + 2, noise.shape(1), 3, 4}))}});
      const auto result = pipeline.generate(request, {});
      REQUIRE(result.images.size() == 2);
      for (int i = 0; i < 2; ++i) {
        const auto [mean, worst] = picture_difference(result.images[static_cast<std::size_t>(i)],
                                                      f["image_u8"], 2 * prompt + i);
        CHECK(mean <= 0.05);
        CHECK(worst <= 1);
      }
    }
  }

  TEST_CASE("a distilled model refuses guidance, a stop request stops it") {
    auto pipeline = open_pipeline("tiny-distilled", mx::float32);
    GenerateRequest request{.prompt = "a cat", .width = 64, .height = 48};
    request.guidance = 4.0;
    CHECK_THROWS_WITH_AS(pipeline.generate(request, {}),
                         "expected guidance 1, since a distilled model runs without it, got 4",
                         Error);
    request.guidance.reset();
    const auto stop_at_second_step = [](const Progress& p) {
      return p.stage != Stage::denoise || p.done < 1;
    };
    CHECK_THROWS_WITH_AS(pipeline.generate(request, stop_at_second_step), "stopped on request",
                         Error);
    CHECK(pipeline.generate(request, {}).images.size() == 1);
  }
}

}  // namespace
}  // namespace klein
