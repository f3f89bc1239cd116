#include "klein/models/flux2/vae_tiling.h"

#include <limits>

#include <doctest/doctest.h>

#include "klein/core/error.h"

namespace klein::flux2 {
namespace {

constexpr auto kEndless = std::numeric_limits<std::uint64_t>::max();

/// The published geometry.
VaeConfig klein_config() {
  VaeConfig c;
  c.latent_channels = 32;
  c.block_out_channels = c.decoder_block_out_channels = {128, 256, 512, 512};
  c.layers_per_block = 2;
  return c;
}

TEST_SUITE("models/vae_tiling") {
  TEST_CASE("an estimate lies above what was measured, by less than half") {
    struct Measured {
      VaeTiling tiling;
      int side;  // pixels
      mx::Dtype dtype;
      double bytes;  // peak of bench_vae less its peak before the work
    };
    for (const auto& [tiling, side, dtype, bytes] : {
             Measured{VaeTiling::off, 512, mx::bfloat16, 0.420e9},
             Measured{VaeTiling::off, 1024, mx::bfloat16, 1.504e9},
             Measured{VaeTiling::off, 2048, mx::bfloat16, 5.574e9},
             Measured{VaeTiling::off, 1024, mx::float32, 2.848e9},
             Measured{VaeTiling::exact, 512, mx::bfloat16, 0.304e9},
             Measured{VaeTiling::exact, 1024, mx::bfloat16, 0.836e9},
             Measured{VaeTiling::exact, 2048, mx::bfloat16, 2.520e9},
             Measured{VaeTiling::exact, 1024, mx::float32, 1.501e9},
             Measured{VaeTiling::diffusers, 2048, mx::bfloat16, 1.965e9},
         }) {
      CAPTURE(side);
      const auto plan = plan_decode(klein_config(), tiling, side / 8, side / 8, dtype, kEndless);
      CHECK(static_cast<double>(plan.estimated_bytes) >= bytes);
      CHECK(static_cast<double>(plan.estimated_bytes) <= bytes * 1.5);
    }
    const auto encoding = [](VaeTiling tiling) {
      const auto plan = plan_encode(klein_config(), tiling, 1024, 1024, mx::bfloat16, kEndless);
      return static_cast<double>(plan.estimated_bytes);
    };
    CHECK(encoding(VaeTiling::off) >= 0.843e9);
    CHECK(encoding(VaeTiling::off) <= 0.843e9 * 1.5);
    CHECK(encoding(VaeTiling::exact) >= 0.652e9);
    CHECK(encoding(VaeTiling::exact) <= 0.652e9 * 1.5);
  }

  TEST_CASE("automatic is the whole picture as long as the budget allows") {
    const auto c = klein_config();
    const auto plan = [&](std::uint64_t budget) {
      return plan_decode(c, VaeTiling::automatic, 128, 128, mx::bfloat16, budget);
    };
    const auto whole = plan(kEndless);
    CHECK(whole.tiling == VaeTiling::off);
    CHECK(plan(whole.estimated_bytes + 1).tiling == VaeTiling::off);
    const auto strips = plan(whole.estimated_bytes - 1'000'000);
    CHECK(strips.tiling == VaeTiling::exact);
    CHECK(strips.strip_rows == 64);
    CHECK(strips.estimated_bytes < whole.estimated_bytes);
  }

  TEST_CASE("strips get lower until they fit, and are planned even where nothing does") {
    const auto plan = [&](std::uint64_t budget) {
      return plan_decode(klein_config(), VaeTiling::exact, 128, 128, mx::bfloat16, budget);
    };
    CHECK(plan(kEndless).strip_rows == 64);
    CHECK(plan(plan(kEndless).estimated_bytes - 1'000'000).strip_rows == 32);
    const auto least = plan(0);
    CHECK(least.strip_rows == 8);
    CHECK(least.estimated_bytes > 0);
  }

  TEST_CASE("a wish holds whatever the budget") {
    for (const auto wish : {VaeTiling::off, VaeTiling::exact, VaeTiling::diffusers}) {
      CHECK(plan_decode(klein_config(), wish, 256, 64, mx::bfloat16, 0).tiling == wish);
      CHECK(plan_encode(klein_config(), wish, 2048, 512, mx::bfloat16, kEndless).tiling == wish);
    }
  }
}

}  // namespace
}  // namespace klein::flux2
