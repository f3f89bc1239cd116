#include "klein/engine/engine.h"

#include <atomic>
#include <thread>
#include <vector>

#include <doctest/doctest.h>

#include "klein/core/error.h"
#include "unit/engine/support.h"

namespace klein {
namespace {

const std::string kTiny = std::string(KLEIN_TEST_FIXTURES) + "/models/tiny-distilled";
const std::string kLoras = std::string(KLEIN_TEST_FIXTURES) + "/lora/";

GenerateRequest small(std::uint64_t seed) {
  return {.prompt = "a cat", .width = 64, .height = 48, .seed = seed};
}

TEST_SUITE("engine/engine") {
  TEST_CASE("knows what the model's files say") {
    const Engine engine({.model = kTiny});
    CHECK(engine.info().is_distilled);
    CHECK(engine.info().default_steps == 4);
    CHECK(engine.info().default_guidance == 1.0);
  }

  TEST_CASE("the same seed draws the same picture, another seed another one") {
    Engine engine({.model = kTiny, .device = DeviceChoice::cpu});
    const auto first = engine.generate(small(1)), again = engine.generate(small(1));
    CHECK(first.images.at(0).rgb == again.images.at(0).rgb);
    CHECK(first.images.at(0).rgb != engine.generate(small(2)).images.at(0).rgb);
    CHECK(first.step_seconds.size() == 4);
  }

  TEST_CASE("requests from several threads wait for each other") {
    Engine engine({.model = kTiny, .device = DeviceChoice::cpu});
    const auto alone = engine.generate(small(3)).images.at(0).rgb;
    std::atomic<int> equal = 0;
    std::vector<std::thread> threads;
    for (int i = 0; i < 3; ++i)
      threads.emplace_back([&] { equal += engine.generate(small(3)).images.at(0).rgb == alone; });
    for (auto& thread : threads) thread.join();
    CHECK(equal == 3);
  }

  TEST_CASE("LoRAs come and go with the requests, and no weight is read again") {
    Engine engine({.model = kTiny, .device = DeviceChoice::cpu});
    const auto paint = [&](const std::vector<LoraChoice>& loras) {
      auto request = small(1);
      request.loras = loras;
      return engine.generate(request);
    };
    const LoraChoice image{kLoras + "kohya.safetensors"}, text{kLoras + "text_kohya.safetensors"};
    const auto plain = paint({});
    CHECK(plain.loaded_parts == 3);
    CHECK(plain.loras.empty());
    const auto rgb = [&](const std::vector<LoraChoice>& loras) {
      const auto result = paint(loras);
      CHECK(result.loaded_parts == 0);
      return result.images.at(0).rgb;
    };
    const auto with_image = rgb({image}), with_text = rgb({text}), with_both = rgb({image, text});
    CHECK(with_image != plain.images.at(0).rgb);
    CHECK(with_text != plain.images.at(0).rgb);
    CHECK(with_both != with_image);
    CHECK(with_both != with_text);
    CHECK(rgb({{image.name, 0.5}, {image.name, 0.5}}) != rgb({{image.name, 0.5}}));
    CHECK(rgb({{image.name, 0.0}, {text.name, 0.0}}) == plain.images.at(0).rgb);
    CHECK(rgb({text}) == with_text);  // embeddings of both kinds are kept side by side
    CHECK(rgb({}) == plain.images.at(0).rgb);
  }

  TEST_CASE("what is kept of reference pictures is not kept for another LoRA") {
    const auto edit = [](Engine& engine, const std::vector<LoraChoice>& loras) {
      auto request = small(1);
      request.loras = loras;
      io::Picture picture{.width = 64, .height = 64, .pixels = {}};
      for (int i = 0; i < 64 * 64 * 3; ++i)
        picture.pixels.push_back(static_cast<std::uint8_t>(i * i % 251));
      request.references = {picture};
      request.kv_cache = KvCaching::on;
      return engine.generate(request).images.at(0).rgb;
    };
    const EngineOptions options{.model = kTiny, .device = DeviceChoice::cpu};
    const std::vector<LoraChoice> loras = {{kLoras + "kohya.safetensors"}};
    Engine one(options), other(options);
    const auto plain = edit(one, {}), with_lora = edit(one, loras);
    CHECK(with_lora == edit(other, loras));
    CHECK(with_lora != plain);
    CHECK(edit(one, {}) == plain);
  }

  TEST_CASE("a picture tells which LoRAs took part") {
    const std::string text = kLoras + "text_kohya.safetensors";
    Engine engine({.model = kTiny, .loras = {{text, 0.5}}, .device = DeviceChoice::cpu});
    const test::Variable library("LORA_LIBRARY_PATH", kLoras);
    auto request = small(1);
    request.loras = {{"kohya", 2.0}};
    const auto loras = engine.generate(request).loras;
    REQUIRE(loras.size() == 2);
    CHECK(loras[0].file == text);
    CHECK(loras[0].scale == 0.5);
    CHECK(loras[0].is_merged);
    CHECK(loras[1].name == "kohya");
    CHECK(loras[1].file == kLoras + "kohya.safetensors");
    CHECK(loras[1].scale == 2.0);
    CHECK_FALSE(loras[1].is_merged);
    request.loras = {{"wolf"}};
    CHECK_THROWS_WITH_AS(engine.generate(request),
                         "expected a LoRA's file, a name in LORA_LIBRARY_PATH, org/repo or "
                         "org/repo:FILE, found none: wolf",
                         Error);
  }

  TEST_CASE("every stage reports its beginning and its end") {
    Engine engine({.model = kTiny, .device = DeviceChoice::cpu});
    std::vector<std::string> seen;
    engine.generate(small(1), [&](const Progress& p) {
      if (p.done == 0 || p.done == p.total)
        seen.push_back(std::string(name_of(p.stage)) + (p.done == 0 ? " begins" : " ends"));
      return true;
    });
    CHECK(seen == std::vector<std::string>{"load begins", "load ends", "encode_text begins",
                                           "encode_text ends", "denoise begins", "denoise ends",
                                           "decode begins", "decode ends"});
  }

  TEST_CASE("a model that is not there is an error that says where it was looked for") {
    CHECK_THROWS_WITH_AS(Engine({.model = "/nowhere/model"}),
                         "expected a model's name, a folder, a file or org/repo, found none: "
                         "/nowhere/model",
                         Error);
  }
}

}  // namespace
}  // namespace klein
