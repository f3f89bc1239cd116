#include "klein/engine/engine.h"

#include <atomic>
#include <thread>
#include <vector>

#include <doctest/doctest.h>

#include "klein/core/error.h"

namespace klein {
namespace {

const std::string kTiny = std::string(KLEIN_TEST_FIXTURES) + "/models/tiny-distilled";

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
