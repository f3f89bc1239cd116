#include "klein/models/flux2/pictures.h"

#include <filesystem>

#include <doctest/doctest.h>

#include "klein/core/error.h"
#include "klein/models/flux2/latent_rgb.h"
#include "klein/models/flux2/pipeline.h"
#include "support/tensors.h"

namespace klein::flux2 {
namespace {

namespace fs = std::filesystem;

fs::path model(const std::string& name) {
  return fs::path(KLEIN_TEST_FIXTURES) / "models" / name;
}

Pipeline tiny(const MemoryOptions& memory = {}) {
  return {Checkpoint::read({.model = model("tiny-distilled")}), {.dtype = mx::float32}, memory};
}

io::Picture stripes(int width, int height, int phase) {
  io::Picture picture;
  picture.width = width;
  picture.height = height;
  for (int i = 0; i < width * height; ++i)
    for (int c = 0; c < 3; ++c)
      picture.pixels.push_back(static_cast<std::uint8_t>((i * (c + 1) + phase) % 251));
  return picture;
}

GenerateRequest edit(std::uint64_t seed) {
  GenerateRequest request;
  request.prompt = "a red apple";
  request.seed = seed;
  request.width = request.height = 32;
  request.references = {stripes(64, 80, 0), stripes(64, 64, 9)};
  return request;
}

TEST_SUITE("models/pictures") {
  TEST_CASE("positions of references count on by ten") {
    ReferenceTokens references;
    append(references, mx::zeros({1, 2, 4}), 1, 2, 0);
    append(references, mx::ones({1, 2, 4}), 2, 1, 1);
    CHECK(references.tokens.shape() == mx::Shape{1, 4, 4});
    CHECK(references.ids ==
          std::vector<nn::PositionId>{{10, 0, 0, 0}, {10, 0, 1, 0}, {20, 0, 0, 0}, {20, 1, 0, 0}});
  }

  TEST_CASE(
      "an edit is the same in one engine and another, kept references or not, streamed or not") {
    for (const auto caching : {KvCaching::off, KvCaching::on}) {
      auto request = edit(3);
      request.kv_cache = caching;
      auto pipeline = tiny();
      const auto first = pipeline.generate(request, {}).images;
      request.seed = 4;
      const auto other = pipeline.generate(request, {}).images;
      CHECK_FALSE(first == other);
      request.seed = 3;
      CHECK(pipeline.generate(request, {}).images == first);  // with what the others left
      std::swap(request.references[0], request.references[1]);
      CHECK_FALSE(pipeline.generate(request, {}).images == first);  // order matters
      std::swap(request.references[0], request.references[1]);
      CHECK(pipeline.generate(request, {}).images == first);
      request.next = NextRequest::none;
      CHECK(pipeline.generate(request, {}).images == first);
      CHECK(tiny({.low_ram = true}).generate(request, {}).images == first);
    }
  }

  TEST_CASE("previews end with the picture itself and change nothing") {
    auto request = edit(5);
    auto pipeline = tiny();
    const auto plain = pipeline.generate(request, {}).images;
    std::vector<Preview> previews;
    request.preview = [&](const Preview& preview) { previews.push_back(preview); };
    request.preview_kind = PreviewKind::decoded;
    CHECK(pipeline.generate(request, {}).images == plain);
    REQUIRE(previews.size() == 4);
    for (int i = 0; i < 4; ++i) {
      CHECK(previews[static_cast<std::size_t>(i)].step == i + 1);
      CHECK(previews[static_cast<std::size_t>(i)].steps == 4);
    }
    // The last step goes all the way: its estimate is the result.
    CHECK(previews.back().images == plain);
    CHECK_FALSE(previews.front().images == plain);

    previews.clear();
    request.preview_kind = PreviewKind::latents;
    CHECK(pipeline.generate(request, {}).images == plain);
    REQUIRE(previews.size() == 4);
    CHECK(previews[0].images.at(0).width == 4);
    CHECK(previews[0].images.at(0).height == 4);
  }

  TEST_CASE("a map to RGB is read from a file, and broken ones are refused") {
    const auto published = LatentRgb::published();
    CHECK(published.weight.shape() == mx::Shape{32, 3});
    const auto grey = published(mx::zeros({2, 3, 4, 32}));
    REQUIRE(grey.size() == 2);
    CHECK(grey[0].width == 4);
    CHECK(grey[0].height == 3);
    // The bias alone: (-0.028738, -0.098463, -0.107619) of [-1, 1].
    CHECK(std::vector<int>(grey[0].rgb.begin(), grey[0].rgb.begin() + 3) ==
          std::vector<int>{124, 115, 114});
  }

  TEST_CASE("a strength of zero takes the picture's size and nothing else") {
    GenerateRequest request;
    request.prompt = "a red apple";
    request.seed = 3;
    request.init_image = InitImage{stripes(70, 50, 0), 0.0};
    const auto result = tiny().generate(request, {});
    CHECK(result.width == 64);
    CHECK(result.height == 48);
    GenerateRequest plain{.prompt = "a red apple", .width = 64, .height = 48, .seed = 3};
    CHECK(tiny().generate(plain, {}).images == result.images);
    // One side keeps the proportions.
    request.init_image->strength = 1.0;
    request.width = 32;
    const auto half = tiny().generate(request, {});
    CHECK(half.width == 32);
    CHECK(half.height == 16);
    CHECK(half.steps == 0);
  }

  TEST_CASE("pixels are clamped and rounded half to even") {
    // -1 and below is black, 1 and above white; 0 is 127.5, which rounds to the even 128.
    const auto image = to_image(mx::array({-3.0f, -1.0f, 0.0f, 1.0f, 7.0f, 0.5f}, {1, 1, 2, 3}));
    CHECK(image.width == 2);
    CHECK(image.height == 1);
    CHECK(image.rgb == std::vector<std::uint8_t>{0, 0, 128, 255, 255, 191});
  }
}

}  // namespace
}  // namespace klein::flux2
