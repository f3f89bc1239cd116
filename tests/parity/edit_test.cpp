// Pictures made from pictures, against diffusers: edits, the KV cache, img2img and inpainting.

#include <filesystem>

#include <doctest/doctest.h>

#include "klein/core/error.h"
#include "klein/models/flux2/pictures.h"
#include "klein/models/flux2/request_plan.h"
#include "klein/pipeline/tensor_files.h"
#include "parity/pipelines.h"
#include "support/json.h"
#include "support/tensors.h"
#include "unit/io/support.h"

namespace klein {
namespace {

namespace fs = std::filesystem;
using test::kBfloat16Run;
using test::kFloat32Run;

fs::path edit_file(const std::string& name) {
  return fs::path(KLEIN_TEST_FIXTURES) / "edit" / name;
}

io::Picture picture(const nlohmann::json& name) {
  return io::load_picture(edit_file(name.get<std::string>()));
}

/// A case's request; `folder` takes the noise where the case has no seed.
GenerateRequest request_of(const nlohmann::json& run, const test::Fixture& f,
                           const fs::path& folder) {
  GenerateRequest request;
  request.prompt = run.at("prompt");
  request.steps = run.at("steps");
  if (run.contains("width")) request.width = run["width"];
  if (run.contains("height")) request.height = run["height"];
  if (run.contains("guidance")) request.guidance = run["guidance"];
  if (!run.contains("seed") || run["seed"].is_null()) {
    request.latents = folder / "noise.safetensors";
    write_tensor(*request.latents, "latents", f["noise"], /*overwrite=*/true);
  } else {
    request.seed = run["seed"];
  }
  if (run.contains("references"))
    for (const auto& name : run["references"]) request.references.push_back(picture(name));
  if (run.contains("mask")) {
    InpaintRequest task{.picture = picture(run.at("image")), .mask = picture(run["mask"])};
    task.strength = run.at("strength");
    if (run.contains("reference")) task.reference = picture(run["reference"]);
    if (run.contains("padding")) task.canvas.padding_mask_crop = run["padding"].get<int>();
    request.inpaint = std::move(task);
  } else if (run.contains("image")) {
    // mflux stretches a picture of other proportions, where this program cuts it.
    request.init_image = InitImage{picture(run.at("prepared").at(0)), run.at("strength")};
  }
  return request;
}

/// What the transformer reads of the references, from the files on.
void check_reference_tokens(const std::string& name, float tolerance = 1e-5f) {
  const auto run = test::fixture_json("edit/" + name);
  const auto f = test::fixture("edit/" + name);
  const io::test::TempDir folder;
  const auto checkpoint = flux2::Checkpoint::read({.model = test::model(run.at("model"))});
  const auto plan = flux2::plan_request(request_of(run, f, folder.path()), checkpoint);
  const auto vae = checkpoint.load_vae({.dtype = mx::float32});
  flux2::ReferenceTokens references;
  for (std::size_t i = 0; i < plan.references.size(); ++i) {
    const auto& picture = plan.references[i];
    append(references, picture_tokens(vae, picture, mx::float32, {}), picture.height / 16,
           picture.width / 16, static_cast<int>(i));
  }
  auto tokens = references.tokens;
  auto ids = references.ids;
  if (f.has("reference_rows")) {
    const auto rows = test::integers(f["reference_rows"]);
    tokens = mx::take(tokens, mx::array(rows.begin(), {static_cast<int>(rows.size())}), 1);
    ids.clear();
    for (const int row : rows) ids.push_back(references.ids.at(static_cast<std::size_t>(row)));
  }
  test::check_close(tokens, f["reference_tokens"], tolerance, name + " reference tokens");
  CHECK(ids == test::position_ids(f["reference_ids"]));
}

/// Draws one case and compares its latents and its picture; with a crop the picture is another one,
/// see tests/unit/pipeline/canvas_test.cpp.
GenerateResult check_case(const std::string& name, mx::Dtype dtype = mx::float32,
                          const test::Tolerance& tolerance = kFloat32Run,
                          KvCaching caching = KvCaching::off) {
  CAPTURE(name);
  const auto plain_name = name.ends_with("_bf16") ? name.substr(0, name.size() - 5) : name;
  const auto run = test::fixture_json("edit/" + plain_name);
  const auto f = test::fixture("edit/" + name);
  const io::test::TempDir folder;
  auto request = request_of(run, f, folder.path());
  request.kv_cache = caching;
  request.save_latents = {folder.path() / "latents.safetensors"};

  auto pipeline = test::open_pipeline(run.at("model"), dtype);
  const auto plan = flux2::plan_request(request, pipeline.checkpoint());
  const auto result = pipeline.generate(request, {});
  REQUIRE(result.steps == plan.steps());
  const auto latents =
      mx::load_safetensors(request.save_latents.front().string()).first.at("latents");
  const auto last =
      result.steps == 0 ? f["start"] : f["latents_" + std::to_string(result.steps - 1)];
  test::check_close(latents, mx::astype(last, mx::float32), tolerance.latents, name + " latents");
  if (!plan.canvas || !plan.canvas->crop) {
    const auto [mean, worst] = test::picture_difference(result.images.at(0), f["image_u8"], 0);
    MESSAGE(name << ": picture differs by " << mean << " levels in the mean, " << worst
                 << " at most");
    CHECK(mean <= tolerance.mean_levels);
    CHECK(worst <= tolerance.worst_levels);
  }
  return result;
}

TEST_SUITE("parity/edit") {
  TEST_CASE("references of any size and mode become diffusers' tokens at its places") {
    for (const std::string name :
         {"edit_one", "edit_two", "edit_four", "edit_modes", "edit_base_cfg", "kv_two"})
      check_reference_tokens(name);
    // With 16 million values a channel group torch itself is 2.5e-5 away from float64.
    check_reference_tokens("edit_large", 5e-5f);
  }

  TEST_CASE("edits with references of odd sizes and modes equal diffusers") {
    for (const std::string name :
         {"edit_one", "edit_two", "edit_four", "edit_modes", "edit_base_cfg", "edit_latents"})
      check_case(name);
    check_case("edit_one_bf16", mx::bfloat16, kBfloat16Run);
  }

  TEST_CASE("an edit with a reference above the area cap equals diffusers") {
    check_case("edit_large");
  }

  TEST_CASE("edits with a KV cache equal diffusers") {
    for (const std::string name : {"kv_one", "kv_two"})
      check_case(name, mx::float32, kFloat32Run, KvCaching::on);
  }

  TEST_CASE("what the KV cache keeps of references equals diffusers") {
    const auto f = test::fixture("edit/kv_two");
    const auto checkpoint = flux2::Checkpoint::read({.model = test::model("tiny-distilled")});
    const flux2::LoadOptions options{.dtype = mx::float32};
    for (const int resident : {0, 100}) {
      const flux2::StreamedTransformer transformer(checkpoint, options, resident);
      const auto ids = test::position_ids(f["reference_ids"]);
      const auto cache =
          transformer.read_references(f["reference_tokens"], transformer.rope(0, ids));
      const auto check = [&](const flux2::KeyValues& kept, const std::string& block) {
        test::check_close(kept.k, f[block + ".key"], 1e-5f, block + " keys");
        test::check_close(kept.v, f[block + ".value"], 1e-5f, block + " values");
      };
      check(cache.double_blocks.at(0), "double_0");
      check(cache.single_blocks.at(1), "single_1");
    }
  }

  TEST_CASE("pictures to begin from equal diffusers' parts under mflux's rule") {
    for (const std::string name :
         {"img2img_25", "img2img_75", "img2img_100", "img2img_50_of_8", "img2img_40_base"})
      check_case(name);
  }

  TEST_CASE("inpainting equals diffusers") {
    for (const std::string name :
         {"inpaint_soft", "inpaint_alpha", "inpaint_base", "inpaint_reference", "inpaint_latents",
          "inpaint_crop", "inpaint_base_crop"})
      check_case(name);
    check_case("inpaint_reference_bf16", mx::bfloat16, kBfloat16Run);
  }

  TEST_CASE("masks become tokens as in diffusers") {
    for (const std::string name : {"inpaint_soft", "inpaint_reference", "inpaint_crop"}) {
      const auto run = test::fixture_json("edit/" + name);
      const auto f = test::fixture("edit/" + name);
      const io::test::TempDir folder;
      const auto checkpoint = flux2::Checkpoint::read({.model = test::model(run.at("model"))});
      const auto plan = flux2::plan_request(request_of(run, f, folder.path()), checkpoint);
      test::check_close(flux2::mask_tokens(plan.canvas->mask, 16, mx::float32), f["mask_tokens"],
                        1e-6f, name + " mask");
    }
  }

  TEST_CASE("the first step of a strength is the one of mflux and of diffusers") {
    const auto rules = test::fixture_json("edit/rules");
    const auto checkpoint = flux2::Checkpoint::read({.model = test::model("tiny-base")});
    const auto square = picture("pictures/square.png");
    const auto first_step = [&](GenerateRequest request, const nlohmann::json& rule) {
      request.steps = rule.at("steps");
      return flux2::plan_request(request, checkpoint).first_step;
    };
    for (const auto& rule : rules.at("img2img_first_steps")) {
      CAPTURE(rule.dump());
      CHECK(first_step({.init_image = InitImage{square, rule.at("strength")}}, rule) ==
            rule.at("first").get<int>());
    }
    for (const auto& rule : rules.at("inpaint_first_steps")) {
      CAPTURE(rule.dump());
      const GenerateRequest request{
          .inpaint =
              InpaintRequest{.picture = square, .mask = square, .strength = rule.at("strength")}};
      if (rule.at("first") >= rule.at("steps"))
        CHECK_THROWS_AS(first_step(request, rule), Error);
      else
        CHECK(first_step(request, rule) == rule.at("first").get<int>());
    }
  }
}

}  // namespace
}  // namespace klein
