#include "klein/ops/elementwise.h"

#include <cmath>
#include <limits>

#include "unit/ops/support.h"

namespace klein::ops::test {
namespace {

TEST_SUITE("ops/elementwise") {
  TEST_CASE("the kernels agree with the portable versions") {
    for (const int width : {1, 6, 33, 1000})
      for (const auto dtype : kDtypes) {
        const auto both = noise({2, 5, 2 * width}, dtype, 1, 3.0f);
        const auto x = noise({2, 5, width}, dtype, 2), y = noise({2, 5, width}, dtype, 3);
        const auto gate = noise({2, width}, dtype, 4);
        check_backends("silu", [&] { return silu(both); });
        check_backends("swiglu of halves", [&] { return swiglu(both); });
        check_backends("swiglu", [&] { return swiglu(x, y); });
        check_backends("add gated", [&] { return add_gated(x, gate, y); });
        check_backends("add gated, three axes",
                       [&] { return add_gated(x, mx::expand_dims(gate, 1), y); });
        check_backends("add scaled", [&] { return add_scaled(x, 0.3f, y); });
      }
  }

  TEST_CASE("columns of wider arrays are read where they are") {
    const auto wide = noise({2, 5, 96}, mx::bfloat16, 1);
    const auto part = mx::slice(wide, {0, 0, 32}, {2, 5, 96});
    check_backends("swiglu", [&] { return swiglu(part); });
    check_backends("add gated", [&] {
      return add_gated(part, mx::slice(noise({2, 192}, mx::bfloat16, 2), {0, 64}, {2, 128}), part);
    });
  }

  TEST_CASE("silu is x / (1 + exp(-x)) to the last bits over the whole range") {
    std::vector<float> in;
    for (int i = -1200; i <= 1200; ++i) in.push_back(static_cast<float>(i) * 0.0725f);
    const mx::array x(in.data(), {static_cast<int>(in.size())}, mx::float32);
    const auto y = values(computed(Backend::native, [&] { return silu(x); }));
    double worst = 0;
    for (std::size_t i = 0; i < in.size(); ++i) {
      const double exact = in[i] / (1.0 + std::exp(-static_cast<double>(in[i])));
      // Close to the end of the range float32 has no more digits to give.
      if (std::abs(exact) > 1e-36)
        worst = std::max(worst, std::abs(static_cast<double>(y[i]) - exact) / std::abs(exact));
    }
    CHECK(worst < 4e-7);
  }

  TEST_CASE("silu of the ends: large, NaN, infinite") {
    const float inf = std::numeric_limits<float>::infinity();
    const mx::array x({1e4f, -1e4f, inf, std::nanf("")}, mx::float32);
    const auto y = values(computed(Backend::native, [&] { return silu(x); }));
    CHECK(y[0] == 1e4f);
    CHECK(y[1] == 0.0f);
    CHECK(y[2] == inf);
    CHECK(std::isnan(y[3]));
  }

  TEST_CASE("every step rounds to bfloat16") {
    // silu(2) = 1.7616 rounds to 1.7578125; times 1.0234375 that is 1.7990..., rounded 1.796875;
    // without the first rounding 1.8029 would round to 1.8046875.
    const auto gate = mx::array({2.0f}, mx::bfloat16), up = mx::array({1.0234375f}, mx::bfloat16);
    // 3 * 1.0078125 = 3.0234375 rounds to 3.03125; 128 + that rounds to 131.
    const auto x = mx::full({1, 1, 1}, 128.0f, mx::bfloat16),
               three = mx::full({1, 1}, 3.0f, mx::bfloat16);
    const auto y = mx::full({1, 1, 1}, 1.0078125f, mx::bfloat16);
    for (const auto backend : {Backend::native, Backend::portable}) {
      CHECK(values(computed(backend, [&] { return swiglu(gate, up); }))[0] == 1.796875f);
      CHECK(values(computed(backend, [&] { return add_gated(x, three, y); }))[0] == 131.0f);
      CHECK(values(computed(backend, [&] { return add_scaled(x, 3.0f, y); }))[0] == 131.0f);
    }
  }

  TEST_CASE("a scale is not rounded before it is multiplied") {
    // 0.2998 * 1.25 = 0.37475 rounds to 0.375; from 0.2998 rounded, 0.298828125, 0.37304688 came.
    const auto zero = mx::zeros({1}, mx::bfloat16), y = mx::array({1.25f}, mx::bfloat16);
    for (const auto backend : {Backend::native, Backend::portable}) {
      CHECK(values(computed(backend, [&] { return add_scaled(zero, 0.2998f, y); }))[0] == 0.375f);
    }
  }

  TEST_CASE("shapes and dtypes that do not fit are refused") {
    CHECK(complaint([] {
            swiglu(mx::zeros({2, 3}));
          }) == "swiglu: expected an even last axis, got [2, 3] float32");
    CHECK(complaint([] { swiglu(mx::zeros({2}), mx::zeros({3})); }) ==
          "swiglu up: expected [2], got [3] float32");
    const auto x = mx::zeros({2, 3, 4});
    CHECK(complaint([&] { add_gated(x, mx::zeros({4}), x); }) ==
          "gated sum gate: expected [2, 4] or [2, 1, 4], got [4] float32");
    CHECK(
        complaint([&] {
          add_gated(x, mx::zeros({2, 4}, mx::bfloat16), x);
        }) ==
        "gated sum input and gate: expected one dtype, got [2, 3, 4] float32 and [2, 4] bfloat16");
  }
}

}  // namespace
}  // namespace klein::ops::test
