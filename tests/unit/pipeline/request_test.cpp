#include "klein/pipeline/request.h"

#include <limits>

#include <doctest/doctest.h>

#include "klein/core/error.h"

namespace klein {
namespace {

std::string complaint(const GenerateRequest& request) {
  try {
    request.validate();
  } catch (const Error& e) {
    CHECK(e.kind() == ErrorKind::usage);
    return e.what();
  }
  return "";
}

TEST_SUITE("pipeline/request") {
  TEST_CASE("a request that leaves everything to the model is fine") {
    CHECK(complaint({}).empty());
    CHECK(complaint({.prompt = "a fox", .width = 16, .height = 4096, .steps = 1}).empty());
    CHECK(complaint({.width = 16384, .height = 1024}).empty());
  }

  TEST_CASE("sizes, steps, guidance and sigmas out of range are refused with what was expected") {
    CHECK(complaint({.width = 0}) == "expected a width of 16 to 1048576 pixels, got 0");
    CHECK(complaint({.height = -16}) == "expected a height of 16 to 1048576 pixels, got -16");
    CHECK(complaint({.width = 4096, .height = 4112}) ==
          "expected at most 4096 x 4096 pixels in all, got 4096 x 4112");
    CHECK(complaint({.steps = 0}) == "expected 1 to 1000 steps, got 0");
    CHECK(complaint({.steps = 1001}) == "expected 1 to 1000 steps, got 1001");
    CHECK(complaint({.guidance = -1.0}) == "expected a guidance of at least 0, got -1");
    CHECK(complaint({.guidance = std::numeric_limits<double>::quiet_NaN()}) ==
          "expected a guidance of at least 0, got nan");
    CHECK(complaint({.sigmas = {1.0f, 0.0f}}) ==
          "expected every sigma above 0 and at most 1, got 0");
    CHECK(complaint({.loras = {{"a", std::numeric_limits<double>::infinity()}}}) ==
          "expected a finite scale for a LoRA, got inf: a");
  }

  TEST_CASE("pictures drawn at once have a limit, and no other source of their number") {
    CHECK(complaint({.seeds = std::vector<std::uint64_t>(64)}).empty());
    CHECK(complaint({.seeds = std::vector<std::uint64_t>(65)}) ==
          "expected at most 64 pictures at once, got 65");
    CHECK(complaint({.seeds = {1}, .latents = "a.safetensors"}).empty());
    CHECK(complaint({.seeds = {1, 2}, .latents = "a.safetensors"}) ==
          "expected several seeds or the latents to begin from, got both");
  }
}

}  // namespace
}  // namespace klein
