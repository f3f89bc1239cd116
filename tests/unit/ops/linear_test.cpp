#include "klein/ops/linear.h"

#include <limits>

#include "unit/ops/support.h"

namespace klein::ops::test {
namespace {

struct Sizes {
  int m, k, n;
};

TEST_SUITE("ops/linear") {
  TEST_CASE("the kernels agree with the portable version for every size and mix of dtypes") {
    for (const auto& [m, k, n] : {Sizes{1, 64, 48}, Sizes{3, 7, 5}, Sizes{4, 130, 33},
                                  Sizes{5, 33, 17}, Sizes{64, 256, 96}, Sizes{37, 100, 1}})
      for (const auto x_type : kDtypes)
        for (const auto w_type : kDtypes) {
          const auto x = noise({m, k}, x_type, 1), w = noise({n, k}, w_type, 2);
          const auto b = noise({n}, w_type, 3);
          check_backends("plain", [&] { return linear(x, w); });
          check_backends("with bias", [&] { return linear(x, w, b); });
        }
  }

  TEST_CASE("weights that need several panels give every column") {
    const auto x = noise({6, 3072}, mx::bfloat16, 1, 0.1f);
    const auto w = noise({1500, 3072}, mx::bfloat16, 2, 0.1f);
    check_backends("panels", [&] { return linear(x, w); });
    check_backends("panels, float32", [&] { return linear(mx::astype(x, mx::float32), w); });
  }

  TEST_CASE("leading axes stay, and inputs may be views") {
    const auto wide = noise({2, 5, 96}, mx::bfloat16, 1);
    const auto w = noise({7, 32}, mx::bfloat16, 2);
    check_backends("columns", [&] { return linear(mx::slice(wide, {0, 0, 32}, {2, 5, 64}), w); });
    check_backends("turned", [&] {
      return linear(mx::transpose(noise({32, 9}, mx::float32, 3)),
                    mx::transpose(noise({32, 6}, mx::float32, 4)));
    });
    CHECK(linear(mx::slice(wide, {0, 0, 32}, {2, 5, 64}), w).shape() == mx::Shape{2, 5, 7});
  }

  TEST_CASE("the bias joins the sum before the one rounding") {
    // 256 + 1 + 1 is a bfloat16 number; 256 + 1 alone would round back to 256.
    for (const int rows : {1, 6}) {
      const auto x = mx::broadcast_to(mx::array({256.0f, 1.0f}, mx::bfloat16), {rows, 2});
      const auto w = mx::ones({1, 2}, mx::bfloat16), b = mx::ones({1}, mx::bfloat16);
      for (const auto backend : {Backend::native, Backend::portable}) {
        const auto y = values(computed(backend, [&] { return linear(x, w, b); }));
        CHECK(y == std::vector<float>(static_cast<std::size_t>(rows), 258.0f));
      }
    }
  }

  TEST_CASE("NaN and infinity reach only their own rows") {
    auto x = noise({8, 16}, mx::float32, 1);
    const float nan = std::numeric_limits<float>::quiet_NaN();
    x = mx::concatenate({x, mx::full({1, 16}, nan)}, 0);
    const auto y = computed(Backend::native, [&] {
      return linear(x, noise({4, 16}, mx::float32, 2));
    });
    CHECK(mx::all(mx::isfinite(mx::slice(y, {0, 0}, {8, 4}))).item<bool>());
    CHECK(mx::all(mx::isnan(mx::slice(y, {8, 0}, {9, 4}))).item<bool>());
  }

  TEST_CASE("no rows give no rows") {
    const auto y = computed(Backend::native, [&] {
      return linear(mx::zeros({0, 16}), noise({4, 16}, mx::float32, 2));
    });
    CHECK(y.shape() == mx::Shape{0, 4});
  }

  TEST_CASE("gradients are those of the portable version") {
    const auto w = noise({4, 16}, mx::float32, 2);
    const auto slope = [&] {
      return mx::vjp([&](const mx::array& x) { return linear(x, w); },
                     noise({3, 16}, mx::float32, 1), mx::ones({3, 4}))
          .second;
    };
    check_backends("gradient", slope);
  }

  TEST_CASE("sizes that do not fit are refused") {
    const auto x = mx::zeros({2, 3}), w = mx::zeros({4, 5});
    CHECK(complaint([&] { linear(x, w); }) ==
          "linear input: expected last axis 5, got [2, 3] float32");
    CHECK(complaint([&] { linear(x, mx::zeros({3})); }) ==
          "linear weight: expected 2 axes, got [3] float32");
    CHECK(complaint([&] {
            linear(x, mx::zeros({4, 3}), mx::zeros({5}));
          }) == "linear bias: expected [4], got [5] float32");
  }
}

}  // namespace
}  // namespace klein::ops::test
