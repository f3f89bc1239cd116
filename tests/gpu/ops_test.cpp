// The kernels for NVIDIA GPUs against the portable versions in float32 on the same numbers.
#include <cmath>
#include <cstdint>
#include <functional>
#include <string>
#include <tuple>
#include <utility>
#include <vector>

#include <doctest/doctest.h>

#include "klein/ops/attention.h"
#include "klein/ops/backend.h"
#include "klein/ops/conv.h"
#include "klein/ops/cuda/native.h"
#include "klein/ops/elementwise.h"
#include "klein/ops/layout.h"
#include "klein/ops/linear.h"
#include "klein/ops/norm.h"
#include "klein/ops/portable.h"
#include "klein/ops/rope.h"
#include "klein/quant/target.h"
#include "klein/tensor/mlx.h"
#include "klein/weights/quantize.h"

using namespace klein;

namespace {

using Arrays = std::vector<mx::array>;
using Operation = std::function<mx::array(const Arrays&)>;

/// The same numbers in every run, others in every call.
mx::array random(mx::Shape shape, float scale = 1.0f, float offset = 0.0f) {
  static std::uint64_t calls = 0;
  const auto noise = mx::random::normal(shape, mx::float32, mx::random::key(++calls));
  const auto wide = noise * mx::array(scale) + mx::array(offset);
  return mx::astype(wide, mx::bfloat16);
}

float worst(const mx::array& a) {
  return mx::max(mx::abs(mx::astype(a, mx::float32))).item<float>();
}

/// Largest difference, as a share of the largest number of the truth, of what the kernels make of
/// bfloat16 inputs from what the portable version makes of the same numbers in float32.
float relative_error(const Operation& run, const Arrays& inputs) {
  REQUIRE(ops::cuda::available());
  const auto got = run(inputs);
  mx::eval(got);
  REQUIRE(got.dtype() == mx::bfloat16);
  Arrays wide;
  for (const auto& a : inputs) wide.push_back(mx::astype(a, mx::float32));
  const auto truth = run(wide);
  REQUIRE(got.shape() == truth.shape());
  const float size = worst(truth);
  REQUIRE(size > 0.0f);
  return worst(mx::astype(got, mx::float32) - truth) / size;
}

constexpr float kTwoRoundings = 1.2e-2f;

float norm(const mx::array& a) {
  return std::sqrt(mx::sum(mx::square(mx::astype(a, mx::float32))).item<float>());
}

/// The difference as a whole beside the truth as a whole: of 8-bit numbers single values say
/// little.
float relative_norm_error(const Operation& run, const Arrays& inputs) {
  const auto got = run(inputs);
  Arrays wide;
  for (const auto& a : inputs) wide.push_back(mx::astype(a, mx::float32));
  const auto truth = run(wide);
  return norm(mx::astype(got, mx::float32) - truth) / norm(truth);
}

}  // namespace

TEST_SUITE("gpu/ops") {
  TEST_CASE("linear layers, with and without a bias, of any number of rows") {
    for (const int rows : {1, 77, 512, 4608})
      for (const auto& [n, k] : {std::pair{64, 128}, {3072, 128}, {9216, 3072}, {256, 384}}) {
        CAPTURE(rows);
        CAPTURE(n);
        const auto x = random({1, rows, k}), w = random({n, k}, 0.05f), b = random({n});
        CHECK(relative_error([](const Arrays& in) { return ops::linear(in[0], in[1]); }, {x, w}) <
              kTwoRoundings);
        CHECK(relative_error([](const Arrays& in) { return ops::linear(in[0], in[1], in[2]); },
                             {x, w, b}) < kTwoRoundings);
      }
  }

  TEST_CASE("a linear layer of columns of a wider array, and of sizes no kernel has") {
    const auto wide = random({2, 100, 640});
    const auto columns = mx::slice(wide, {0, 0, 128}, {2, 100, 384});
    const auto run = [](const Arrays& in) { return ops::linear(in[0], in[1]); };
    CHECK(relative_error(run, {columns, random({192, 256}, 0.1f)}) < kTwoRoundings);
    CHECK(relative_error(run, {random({3, 5, 37}), random({11, 37}, 0.1f)}) < kTwoRoundings);
  }

  TEST_CASE("modulated layer norm of whole arrays, columns and batches") {
    const auto run = [](const Arrays& in) {
      return ops::modulated_layer_norm(in[0], in[1], in[2], 1e-6f);
    };
    for (const int c : {8, 256, 3072, 4096, 8192}) {
      CAPTURE(c);
      CHECK(relative_error(run, {random({2, 33, c}, 2.0f, 3.0f), random({2, c}, 0.3f),
                                 random({2, 1, c})}) < kTwoRoundings);
    }
    const auto wide = random({2, 40, 1024});
    CHECK(relative_error(run, {mx::slice(wide, {0, 4, 256}, {2, 37, 512}),
                               mx::slice(random({2, 1024}), {0, 512}, {2, 768}),
                               random({2, 256})}) < kTwoRoundings);
  }

  TEST_CASE("RMS norms") {
    const auto run = [](const Arrays& in) {
      return ops::rms_norm_rounded_twice(in[0], in[1], 1e-6f);
    };
    for (const int c : {128, 2560, 4096})
      CHECK(relative_error(run, {random({1, 77, c}, 3.0f), random({c}, 0.2f, 1.0f)}) <
            kTwoRoundings);
  }

  TEST_CASE("norm and rotation of heads that are columns of a wide projection") {
    for (const int d : {16, 32, 64, 128}) {
      CAPTURE(d);
      const int heads = 6, length = 45;
      const auto wide = random({2, length, 9 * heads * d});
      const auto x = mx::unflatten(mx::slice(wide, {0, 0, heads * d}, {2, length, 2 * heads * d}),
                                   -1, {heads, d});
      const auto angles = mx::random::uniform({length, d / 2}) * mx::array(6.28f);
      const auto w = random({d}, 0.2f, 1.0f);
      const auto cosines = mx::cos(angles), sines = mx::sin(angles);
      CHECK(relative_error(
                [&](const Arrays& in) {
                  return ops::rms_norm_rope_interleaved(in[0], in[1], 1e-6f, cosines, sines);
                },
                {x, w}) < kTwoRoundings);
      CHECK(relative_error(
                [&](const Arrays& in) {
                  return ops::rms_norm_rope_half(in[0], in[1], 1e-6f, in[2], in[3]);
                },
                {x, w, mx::astype(cosines, mx::bfloat16), mx::astype(sines, mx::bfloat16)}) <
            kTwoRoundings);
    }
  }

  TEST_CASE("gates") {
    const auto wide = random({2, 50, 768});
    CHECK(relative_error([](const Arrays& in) { return ops::swiglu(in[0]); }, {wide}) <
          kTwoRoundings);
    CHECK(relative_error([](const Arrays& in) { return ops::swiglu(in[0], in[1]); },
                         {random({1, 512, 9728}), random({1, 512, 9728})}) < kTwoRoundings);
    CHECK(relative_error([](const Arrays& in) { return ops::add_gated(in[0], in[1], in[2]); },
                         {wide, random({2, 768}), random({2, 50, 768})}) < kTwoRoundings);
  }

  TEST_CASE("group norm of channels far from zero") {
    for (const int c : {128, 256, 512})
      for (const bool silu : {false, true})
        for (const auto& [h, w] : {std::pair{1, 1}, {7, 13}, {128, 96}}) {
          CAPTURE(c);
          CAPTURE(h);
          const auto run = [&](const Arrays& in) {
            return ops::group_norm(in[0], in[1], in[2], 32, 1e-6f, silu);
          };
          CHECK(relative_error(run, {random({2, h, w, c}, 1.0f, 20.0f), random({c}, 0.2f, 1.0f),
                                     random({c})}) < kTwoRoundings);
        }
  }

  TEST_CASE("pixels become levels") {
    const auto pixels = random({1, 7, 16, 3}, 0.7f);
    const auto got = ops::levels(pixels), truth = ops::portable::levels(pixels);
    CHECK(got.dtype() == mx::uint8);
    CHECK(mx::array_equal(got, truth).item<bool>());
  }

  TEST_CASE("pixels become squares") {
    const auto run = [](const Arrays& in) { return ops::upsample_nearest_2x(in[0]); };
    CHECK(relative_error(run, {random({2, 5, 9, 64})}) == 0.0f);
  }

  TEST_CASE("attention of heads side by side in wide arrays") {
    for (const int length : {1, 77, 1000, 4608}) {
      CAPTURE(length);
      const auto wide = random({1, length, 9, 24, 128});
      const auto part = [&](int i) {
        return mx::squeeze(mx::slice(wide, {0, 0, i, 0, 0}, {1, length, i + 1, 24, 128}), 2);
      };
      const auto run = [](const Arrays& in) {
        return ops::attention(in[0], in[1], in[2], 0.0883883f);
      };
      CHECK(relative_error(run, {part(0), part(1), part(5)}) < 2 * kTwoRoundings);
    }
  }

  TEST_CASE("causal attention with padded rows and shared keys") {
    for (const auto& [length, lengths] :
         {std::pair<int, std::vector<int>>{512, {}}, {512, {37, 512}}, {77, {1, 70}}}) {
      CAPTURE(length);
      const auto run = [&](const Arrays& in) {
        return ops::attention(in[0], in[1], in[2], 0.0883883f,
                              {.causal = true, .key_lengths = lengths});
      };
      CHECK(relative_error(run, {random({2, length, 32, 128}), random({2, length, 8, 128}),
                                 random({2, length, 8, 128})}) < 2 * kTwoRoundings);
    }
  }

  TEST_CASE("queries that see other keys than their own, in several pictures") {
    const auto run = [](const Arrays& in) {
      return ops::attention(in[0], in[1], in[2], 0.0883883f);
    };
    CHECK(relative_error(run, {random({2, 300, 4, 128}), random({2, 1111, 4, 128}),
                               random({2, 1111, 4, 128})}) < 2 * kTwoRoundings);
  }

  TEST_CASE("two streams normed and rotated into one") {
    const auto angles = mx::random::uniform({90, 64}) * mx::array(6.28f);
    const auto cosines = mx::cos(angles), sines = mx::sin(angles);
    const auto part = [&](const mx::array& table, int begin, int end) {
      return mx::slice(table, {begin, 0}, {end, 64});
    };
    const auto run = [&](const Arrays& in) {
      const auto text = ops::rms_norm_rope_interleaved(in[0], in[2], 1e-6f, part(cosines, 0, 20),
                                                       part(sines, 0, 20));
      const auto image = ops::rms_norm_rope_interleaved(in[1], in[3], 1e-6f, part(cosines, 20, 90),
                                                        part(sines, 20, 90));
      return ops::concatenate({text, image}, 1);
    };
    CHECK(relative_error(run, {random({2, 20, 5, 128}), random({2, 70, 5, 128}),
                               random({128}, 0.2f, 1.0f), random({128}, 0.2f, 1.0f)}) <
          kTwoRoundings);
  }

  TEST_CASE("a whole single-stream block: parts of one product, attention beside the gates") {
    for (const int length : {45, 1100, 4608}) {
      CAPTURE(length);
      const int heads = 3, dim = heads * 128, wide = 3 * dim + 2 * 3 * dim;
      const auto run = [&](const Arrays& in) {
        const auto projected = ops::linear(in[0], in[1]);
        const auto parts = mx::split(ops::columns(projected, 0, 3 * dim), 3, -1);
        const auto head = [&](int i) {
          return mx::unflatten(parts[static_cast<std::size_t>(i)], -1, {heads, 128});
        };
        const auto seen = mx::flatten(ops::attention(head(0), head(1), head(2), 0.0883883f), 2, 3);
        const auto gated = ops::swiglu(ops::columns(projected, 3 * dim, wide));
        return ops::concatenate({seen, gated}, -1);
      };
      CHECK(relative_error(run, {random({1, length, dim}), random({wide, dim}, 0.05f)}) <
            2 * kTwoRoundings);
    }
  }

  TEST_CASE("convolutions, onto another picture and of pixels made squares") {
    for (const auto& [h, w, in_channels, out_channels] : {std::tuple{1, 1, 64, 64},
                                                          {33, 19, 128, 128},
                                                          {16, 40, 256, 512},
                                                          {9, 70, 192, 64},
                                                          {12, 12, 32, 64},
                                                          {20, 24, 128, 3}}) {
      CAPTURE(h);
      CAPTURE(in_channels);
      CAPTURE(out_channels);
      const auto x = random({2, h, w, in_channels}),
                 weight = random({out_channels, 3, 3, in_channels}, 0.03f),
                 bias = random({out_channels}), other = random({2, h, w, out_channels});
      const auto conv = [](const Arrays& in) { return ops::conv2d(in[0], in[1], in[2], 1, 1); };
      CHECK(relative_error(conv, {x, weight, bias}) < kTwoRoundings);
      const auto onto = [](const Arrays& in) {
        return ops::add(in[3], ops::conv2d(in[0], in[1], in[2], 1, 1));
      };
      CHECK(relative_error(onto, {x, weight, bias, other}) < kTwoRoundings);
      const auto doubled = [](const Arrays& in) {
        return ops::conv2d(ops::upsample_nearest_2x(in[0]), in[1], in[2], 1, 1);
      };
      CHECK(relative_error(doubled, {x, weight, bias}) < kTwoRoundings);
      const auto normed = [](const Arrays& in) {
        const auto y = ops::conv2d(in[0], in[1], in[2], 1, 1);
        const int groups = in[1].shape(0) % 32 == 0 ? 32 : 1;
        return ops::group_norm(y, in[2], in[2], groups, 1e-6f, true);
      };
      CHECK(relative_error(normed, {x, weight, bias}) < 2 * kTwoRoundings);
    }
  }

  TEST_CASE("products of 8-bit numbers, of what norms and gates make") {
    ops::use_math(MathMode::fp8);
    const auto pack = [](const mx::array& w) {
      return weights::quantize(w, quant::parse_target("fp8"));
    };
    for (const int dim : {256, 3072}) {
      CAPTURE(dim);
      const auto packed = pack(random({2 * dim, dim}, 0.05f));
      const auto down = pack(random({dim, dim}, 0.05f));
      const auto run = [&](const Arrays& in) {
        const auto x = ops::modulated_layer_norm(in[0], in[1], in[1], 1e-6f);
        const auto gated = ops::swiglu(ops::linear(x, packed));
        return ops::linear(gated, down);
      };
      const Arrays inputs{random({1, 512, dim}), random({1, dim}, 0.3f)};
      // Two products of such rows are 4.4e-2 to 4.6e-2 from the truth when torch makes them.
      CHECK(relative_norm_error(run, inputs) < 5.5e-2f);
      ops::use_math(MathMode::fast);  // the same weights with activations in bfloat16: nearer
      CHECK(relative_error(run, inputs) < kTwoRoundings);
      ops::use_math(MathMode::fp8);
    }
    ops::use_math(MathMode::fast);
  }
}
