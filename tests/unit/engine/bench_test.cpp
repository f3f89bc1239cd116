#include "klein/engine/bench.h"

#include <vector>

#include <doctest/doctest.h>

#include "klein/core/error.h"
#include "klein/pipeline/tensor_files.h"
#include "klein/tensor/random.h"
#include "support/tensors.h"
#include "unit/io/support.h"

namespace klein {
namespace {

EngineOptions tiny() {
  return {.model = std::string(KLEIN_TEST_FIXTURES) + "/models/tiny-distilled",
          .precision = Precision::float32,
          .device = DeviceChoice::cpu};
}

TEST_SUITE("engine/bench") {
  TEST_CASE("times are the median and the best") {
    CHECK(RunTimes::of({3.0, 1.0, 2.0}).median == 2.0);
    CHECK(RunTimes::of({3.0, 1.0, 2.0, 5.0}).median == 2.5);
    CHECK(RunTimes::of({3.0, 1.0}).best == 1.0);
  }

  TEST_CASE("one picture warms up, the others are timed, and others may take turns") {
    const io::test::TempDir folder;
    Engine engine(tiny());
    BenchRequest request{
        .picture = {.prompt = "x", .width = 64, .height = 48, .steps = 2, .seed = 9},
        .runs = 2,
        .batches = {3},
        .measure_floor = true};
    request.picture.save_latents = {folder.path() / "latents"};
    request.save_noise = folder.path() / "noise";
    std::vector<int> turns;
    std::vector<int> loaded;
    request.after_run = [&](int run, const GenerateResult& result) {
      turns.push_back(run);
      loaded.push_back(result.loaded_parts);
    };
    const auto report = engine.bench(request);
    CHECK(turns == std::vector<int>{0, 1, 2});
    CHECK(loaded == std::vector<int>{3, 0, 0});
    CHECK(report.step_seconds.size() == 4);
    CHECK(report.step.best == std::ranges::min(report.step_seconds));
    REQUIRE(report.batches.size() == 1);
    CHECK(report.batches[0].pictures == 3);
    CHECK(report.batches[0].seconds.best > 0.0);
    CHECK(report.picture.median >= report.denoise.best + report.decode.best);
    CHECK(report.cached_picture.best > 0.0);
    CHECK(report.floor_seconds > 0.0);

    // Noise in, latents out: what another program needs for the same picture.
    CHECK(test::relative_error(read_tensor(folder.path() / "noise", "latents"),
                               torch_randn({1, 128, 3, 4}, 9)) == 0.0f);
    GenerateRequest again = request.picture;
    again.latents = folder.path() / "noise";
    again.save_latents = {folder.path() / "again"};
    engine.generate(again);
    CHECK(test::relative_error(read_tensor(folder.path() / "latents", "latents"),
                               read_tensor(folder.path() / "again", "latents")) == 0.0f);
  }
}

}  // namespace
}  // namespace klein
