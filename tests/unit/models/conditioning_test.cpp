#include <algorithm>
#include <cstdlib>
#include <filesystem>

#include <doctest/doctest.h>

#include "klein/core/error.h"
#include "klein/models/flux2/pipeline.h"
#include "klein/pipeline/tensor_files.h"
#include "support/tensors.h"
#include "unit/io/support.h"

namespace klein::flux2 {
namespace {

io::Picture stripes(int width, int height) {
  io::Picture picture;
  picture.width = width;
  picture.height = height;
  for (int i = 0; i < width * height * 3; ++i)
    picture.pixels.push_back(static_cast<std::uint8_t>(i % 251));
  return picture;
}

Pipeline tiny(const std::string& name) {
  return {Checkpoint::read({.model = std::filesystem::path(KLEIN_TEST_FIXTURES) / "models" / name}),
          {.dtype = mx::float32}};
}

/// Of each task one request, with the model that it is for.
std::vector<std::pair<std::string, GenerateRequest>> tasks() {
  const GenerateRequest plain{.prompt = "a red apple", .width = 64, .height = 48, .steps = 2};
  auto mlx = plain, edit = plain, kept = plain, guided = plain, image = plain, inpaint = plain;
  mlx.rng = Rng::mlx;
  edit.references = {stripes(64, 80), stripes(64, 64)};
  edit.kv_cache = KvCaching::off;
  kept.references = edit.references;
  kept.kv_cache = KvCaching::on;
  guided.guidance = 3.0;
  guided.negative_prompt = "a pear";
  image.init_image = InitImage{stripes(64, 48), 0.5};
  auto mask = stripes(64, 48);
  std::fill(mask.pixels.begin(), mask.pixels.begin() + 64 * 24 * 3, std::uint8_t{255});
  inpaint.inpaint = InpaintRequest{.picture = stripes(64, 48), .mask = mask};
  inpaint.width = inpaint.height = std::nullopt;
  return {{"tiny-distilled", plain},  {"tiny-distilled", mlx}, {"tiny-distilled", edit},
          {"tiny-distilled", kept},   {"tiny-base", guided},   {"tiny-distilled", image},
          {"tiny-distilled", inpaint}};
}

TEST_SUITE("models/conditioning") {
  TEST_CASE("pictures that are drawn at once are those of their seeds one by one") {
    const io::test::TempDir folder;
    int task = 0;
    for (auto [model, request] : tasks()) {
      CAPTURE(task++);
      auto pipeline = tiny(model);
      request.seeds = {7, 8, 7};
      request.overwrite = true;
      for (const char* name : {"0", "1", "2"}) request.save_latents.push_back(folder.path() / name);
      const auto images = pipeline.generate(request, {}).images;
      REQUIRE(images.size() == 3);
      CHECK(images[0] == images[2]);
      CHECK_FALSE(images[0] == images[1]);
      request.seeds.clear();
      request.save_latents = {folder.path() / "alone"};
      for (const std::size_t row : {0, 1}) {
        request.seed = 7 + row;
        const auto alone = pipeline.generate(request, {}).images;
        REQUIRE(alone.size() == 1);
        test::check_close(read_tensor(folder.path() / std::to_string(row), "latents"),
                          read_tensor(folder.path() / "alone", "latents"), 1e-5f, "latents");
        int most = 0;
        for (std::size_t i = 0; i < alone[0].rgb.size(); ++i)
          most = std::max(most, std::abs(alone[0].rgb[i] - images[row].rgb[i]));
        CHECK(most <= 1);  // a number may lie where 8 bits round
      }
    }
  }

  TEST_CASE("files of tensors are one for all pictures or one for each") {
    const io::test::TempDir folder;
    auto pipeline = tiny("tiny-distilled");
    GenerateRequest request{.prompt = "x", .width = 64, .height = 48, .steps = 1, .seeds = {1, 2}};
    request.save_latents = {folder.path() / "all"};
    request.save_prompt_embeds = {folder.path() / "a", folder.path() / "b"};
    pipeline.generate(request, {});
    CHECK(read_tensor(folder.path() / "all", "latents").shape() == mx::Shape{2, 12, 128});
    CHECK(read_tensor(folder.path() / "a", "prompt_embeds").shape(0) == 1);
    test::check_close(read_tensor(folder.path() / "b", "prompt_embeds"),
                      read_tensor(folder.path() / "a", "prompt_embeds"), 0.0f, "embeds");
    request.save_prompt_embeds = {"a", "b", "c"};
    std::string message;
    try {
      pipeline.generate(request, {});
    } catch (const Error& error) {
      message = error.what();
    }
    CHECK(message == "expected one file of tensors, or one for each picture of 2, got 3");
  }
}

}  // namespace
}  // namespace klein::flux2
