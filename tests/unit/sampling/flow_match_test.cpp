#include "klein/sampling/flow_match.h"

#include <doctest/doctest.h>

#include "klein/core/error.h"

namespace klein::sampling {
namespace {

TEST_SUITE("sampling/flow_match") {
  TEST_CASE("one step goes from pure noise to the picture") {
    CHECK(linear_sigmas(1) == std::vector{1.0f});
    const auto schedule = make_schedule({.use_dynamic_shifting = true}, linear_sigmas(1), 2.0);
    CHECK(schedule.sigmas == std::vector{1.0f, 0.0f});
    CHECK(schedule.timesteps == std::vector{1000.0f});
  }

  TEST_CASE("without dynamic shifting the fixed shift applies") {
    const auto schedule = make_schedule({.shift = 3.0f}, {0.5f}, /*mu=*/9.0);
    CHECK(schedule.sigmas.at(0) == 0.75f);  // 3 * 0.5 / (1 + 2 * 0.5)
  }

  TEST_CASE("sigmas that are none are refused") {
    CHECK_THROWS_WITH_AS(make_schedule({}, {}, 0.0), "expected at least one sigma, got none",
                         Error);
    CHECK_THROWS_WITH_AS(make_schedule({}, {1.5f}, 0.0),
                         "expected every sigma above 0 and at most 1, got 1.5", Error);
  }

  TEST_CASE("a step keeps the dtype of the velocity") {
    const auto x = mx::ones({2}, mx::bfloat16);
    CHECK(euler_step(x, x, 1.0f, 0.5f).dtype() == mx::bfloat16);
  }
}

}  // namespace
}  // namespace klein::sampling
