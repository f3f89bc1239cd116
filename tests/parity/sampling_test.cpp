// Schedules, steps, guidance and noise against diffusers, torch and MLX's Python package.

#include <doctest/doctest.h>

#include "klein/sampling/flow_match.h"
#include "klein/sampling/guidance.h"
#include "klein/tensor/random.h"
#include "support/json.h"
#include "support/tensors.h"

namespace klein {
namespace {

using test::check_close;

bool same_bits(const mx::array& a, const mx::array& b) {
  return a.shape() == b.shape() && a.dtype() == b.dtype() && mx::array_equal(a, b).item<bool>();
}

mx::Shape shape_from(const std::string& text) {
  mx::Shape shape;
  for (std::size_t at = 0; at < text.size();) {
    std::size_t used = 0;
    shape.push_back(std::stoi(text.substr(at), &used));
    at += used + 1;
  }
  return shape;
}

TEST_SUITE("parity/sampling") {
  TEST_CASE("mu, sigmas and timesteps equal diffusers bit for bit") {
    const auto file = test::fixture_json("sampling/sigmas");
    const sampling::SchedulerConfig config{.use_dynamic_shifting = true, .shift = 3.0f};
    REQUIRE(file.at("cases").size() >= 12);
    for (const auto& entry : file.at("cases")) {
      const int tokens = entry.at("image_tokens"), steps = entry.at("steps");
      CAPTURE(tokens);
      CAPTURE(steps);
      const double mu = sampling::empirical_mu(tokens, steps);
      CHECK(mu == doctest::Approx(entry.at("mu").get<double>()).epsilon(1e-15));
      const auto unshifted = entry.contains("custom_sigmas")
                                 ? entry.at("custom_sigmas").get<std::vector<float>>()
                                 : sampling::linear_sigmas(steps);
      const auto schedule = sampling::make_schedule(config, unshifted, mu);
      CHECK(schedule.sigmas == entry.at("sigmas").get<std::vector<float>>());
      CHECK(schedule.timesteps == entry.at("timesteps").get<std::vector<float>>());

      const auto want = entry.at("timesteps_bf16").get<std::vector<float>>();
      for (std::size_t i = 0; i < want.size(); ++i) {
        const auto t = mx::array(schedule.timesteps[i], mx::bfloat16) /
                       mx::array(1000.0f, mx::bfloat16) * mx::array(1000.0f, mx::bfloat16);
        CHECK(mx::astype(t, mx::float32).item<float>() == want[i]);
      }
    }
  }

  TEST_CASE("Euler steps equal diffusers bit for bit") {
    for (const std::string name : {"euler_1", "euler_4", "euler_1_bf16", "euler_4_bf16"}) {
      CAPTURE(name);
      const auto f = test::fixture("sampling/" + name);
      const auto sigma = [&](int i) {
        return mx::astype(mx::take(f["sigmas"], i), mx::float32).item<float>();
      };
      const int steps = static_cast<int>(f["sigmas"].size()) - 1;
      for (int i = 0; i < steps; ++i) {
        const auto number = std::to_string(i), next = std::to_string(i + 1);
        CHECK(same_bits(sampling::euler_step(f["sample_" + number], f["velocity_" + number],
                                             sigma(i), sigma(i + 1)),
                        f["sample_" + next]));
      }
    }
  }

  TEST_CASE("classifier-free guidance equals diffusers bit for bit") {
    for (const std::string name : {"sampling/guidance", "sampling/guidance_bf16"}) {
      const auto f = test::fixture(name);
      for (const auto& [key, want] : f.tensors) {
        if (!key.starts_with("output_")) continue;
        CAPTURE(key);
        CHECK(same_bits(sampling::guide(f["positive"], f["negative"], std::stof(key.substr(7))),
                        want));
      }
    }
  }

  TEST_CASE("a seed means the numbers of torch's CPU generator") {
    const auto f = test::fixture("random/torch");
    int seen = 0;
    for (const auto& [key, want] : f.tensors) {
      if (!key.starts_with("seed_")) continue;
      const auto dot = key.find('.');
      const auto seed = std::stoull(key.substr(5, dot - 5));
      CAPTURE(key);
      const auto got = torch_randn(shape_from(key.substr(dot + 1)), seed);
      CHECK(mx::max(mx::abs(got - want)).item<float>() <= 1e-6f);
      ++seen;
    }
    CHECK(seen >= 3);
    const auto rounded = mx::astype(torch_randn({1, 128, 2, 3}, 42), mx::bfloat16);
    CHECK(same_bits(rounded, f["bf16.seed_42.1x128x2x3"]));
    CHECK_THROWS_WITH(torch_randn({1, 15}, 0), "expected noise of at least 16 values");
  }

  TEST_CASE("--rng mlx means the numbers of MLX's generator, as mflux draws them") {
    const auto f = test::fixture("random/mlx");
    for (const auto& [key, want] : f.tensors) {
      if (!key.starts_with("seed_")) continue;
      const auto dot = key.find('.');
      CAPTURE(key);
      const auto got =
          mlx_randn(shape_from(key.substr(dot + 1)), std::stoull(key.substr(5, dot - 5)));
      CHECK(mx::max(mx::abs(got - want)).item<float>() <= 1e-6f);
    }
  }
}

}  // namespace
}  // namespace klein
