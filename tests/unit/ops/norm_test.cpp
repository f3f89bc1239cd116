#include "klein/ops/norm.h"

#include "unit/ops/support.h"

namespace klein::ops::test {
namespace {

TEST_SUITE("ops/norm") {
  TEST_CASE("RMS norms agree with the portable versions") {
    for (const int width : {1, 7, 16, 64, 128, 3073})
      for (const auto dtype : kDtypes)
        for (const auto w_type : kDtypes) {
          const auto x = noise({2, 3, 5, width}, dtype, 1, 3.0f), w = noise({width}, w_type, 2);
          check_backends("one rounding", [&] { return rms_norm(x, w, 1e-6f); });
          check_backends("two roundings", [&] { return rms_norm_rounded_twice(x, w, 1e-6f); });
        }
  }

  TEST_CASE("RMS norm reads columns of a wider array") {
    const auto wide = noise({2, 9, 3 * 64}, mx::bfloat16, 1);
    const auto w = noise({16}, mx::bfloat16, 2);
    check_backends("columns", [&] {
      return rms_norm(mx::reshape(mx::slice(wide, {0, 0, 64}, {2, 9, 128}), {2, 9, 4, 16}), w,
                      1e-6f);
    });
  }

  TEST_CASE("only the norm that rounds twice rounds before the weight") {
    // 1.0078125 is the first bfloat16 above 1. The root of the mean square is 1.0039..., so the
    // first number becomes 1.00388, which rounds to 1.0078125 or, times 1.5 first, to 1.5.
    const auto x = mx::array({1.0078125f, 1.0f}, mx::bfloat16),
               w = mx::full({2}, 1.5f, mx::bfloat16);
    for (const auto backend : {Backend::native, Backend::portable}) {
      CHECK(values(computed(backend, [&] { return rms_norm(x, w, 0.0f); }))[0] == 1.5078125f);
      CHECK(values(computed(backend, [&] { return rms_norm_rounded_twice(x, w, 0.0f); }))[0] ==
            1.5f);
    }
  }

  TEST_CASE("modulated layer norm agrees with the portable version") {
    for (const int width : {2, 24, 129, 3072})
      for (const auto dtype : kDtypes) {
        const auto x = noise({2, 5, width}, dtype, 1, 2.0f) + mx::array(1.0f, dtype);
        const auto scale = noise({2, 1, width}, dtype, 2), shift = noise({2, width}, dtype, 3);
        check_backends("modulated", [&] { return modulated_layer_norm(x, scale, shift, 1e-6f); });
      }
  }

  TEST_CASE("modulation may be columns of one vector") {
    const auto x = noise({2, 5, 24}, mx::bfloat16, 1);
    const auto all = noise({2, 72}, mx::bfloat16, 2);
    check_backends("columns", [&] {
      const auto parts = mx::split(all, 3, 1);
      return modulated_layer_norm(x, parts[1], parts[2], 1e-6f);
    });
  }

  TEST_CASE("group norm agrees with the portable version, with and without SiLU") {
    struct Sizes {
      int batch, height, width, channels, groups;
    };
    for (const auto& [b, h, w, c, g] : {Sizes{1, 1, 1, 4, 2}, Sizes{2, 5, 7, 16, 8},
                                        Sizes{1, 33, 17, 32, 32}, Sizes{1, 8, 8, 512, 32}})
      for (const auto dtype : kDtypes)
        for (const bool silu : {false, true}) {
          const auto x = noise({b, h, w, c}, dtype, 1, 2.0f) + mx::array(1.0f, dtype);
          const auto weight = noise({c}, dtype, 2), bias = noise({c}, dtype, 3);
          check_backends("group norm", [&] { return group_norm(x, weight, bias, g, 1e-6f, silu); });
        }
  }

  TEST_CASE("group norm with the moments of the picture is group norm, part by part") {
    for (const auto dtype : kDtypes) {
      const auto x = noise({2, 6, 5, 16}, dtype, 1, 2.0f) + mx::array(1.0f, dtype);
      const auto weight = noise({16}, dtype, 2), bias = noise({16}, dtype, 3);
      const auto lower = mx::slice(x, {0, 4, 0, 0}, {2, 6, 5, 16});
      const auto in_part = [&] {
        return group_norm_with(lower, group_moments(x, 4), weight, bias, 1e-6f, true);
      };
      check_backends("in a part", in_part);
      check_backends("moments", [&] { return group_moments(x, 4); });
      const auto whole = computed(Backend::native, [&] {
        return mx::slice(group_norm(x, weight, bias, 4, 1e-6f, true), {0, 4, 0, 0}, {2, 6, 5, 16});
      });
      check_same(computed(Backend::native, in_part), whole, "part of the whole");
    }
  }

  TEST_CASE("moments are mean and variance of a group") {
    const auto x =
        mx::reshape(mx::array({1.0f, 3.0f, 10.0f, 10.0f, 5.0f, 7.0f, 10.0f, 14.0f}), {1, 2, 1, 4});
    for (const auto backend : {Backend::native, Backend::portable})
      CHECK(values(computed(backend, [&] { return group_moments(x, 2); })) ==
            std::vector<float>{4.0f, 5.0f, 11.0f, 3.0f});
  }

  TEST_CASE("a constant group becomes the bias, however large the constant") {
    const auto x = mx::full({1, 64, 64, 4}, 1000.0f);
    const auto y = computed(Backend::native, [&] {
      return group_norm(x, mx::ones({4}), mx::array({1.0f, 2.0f, 3.0f, 4.0f}), 2, 1e-6f, false);
    });
    const auto one = values(mx::slice(y, {0, 63, 63, 0}, {1, 64, 64, 4}));
    for (int i = 0; i < 4; ++i)
      CHECK(one[static_cast<std::size_t>(i)] == doctest::Approx(i + 1).epsilon(1e-3));
  }

  TEST_CASE("group norm reads views") {
    const auto x = mx::transpose(noise({2, 8, 5, 7}, mx::bfloat16, 1), {0, 2, 3, 1});
    check_backends("view", [&] {
      return group_norm(x, mx::ones({8}, mx::bfloat16), mx::zeros({8}, mx::bfloat16), 4, 1e-6f,
                        true);
    });
  }

  TEST_CASE("shapes that do not fit are refused") {
    const auto x = mx::zeros({2, 3, 8});
    CHECK(complaint([&] { rms_norm(x, mx::zeros({7}), 1e-6f); }) ==
          "RMS norm input: expected last axis 7, got [2, 3, 8] float32");
    CHECK(complaint([&] {
            modulated_layer_norm(x, mx::zeros({3, 8}), mx::zeros({2, 8}), 1e-6f);
          }) == "modulated layer norm scale: expected [2, 8] or [2, 1, 8], got [3, 8] float32");
    const auto picture = mx::zeros({1, 2, 2, 8}), w = mx::zeros({8});
    CHECK(complaint([&] { group_norm(picture, w, w, 3, 1e-6f, true); }) ==
          "group norm: 8 channels do not divide into 3 groups");
    CHECK(complaint([&] { group_norm(picture, w, mx::zeros({4}), 2, 1e-6f, true); }) ==
          "group norm bias: expected [8], got [4] float32");
    CHECK(complaint([&] { group_moments(picture, 3); }) ==
          "group norm: 8 channels do not divide into 3 groups");
    CHECK(complaint([&] {
            group_norm_with(picture, mx::zeros({2, 4, 2}), w, w, 1e-6f, true);
          }) == "group norm moments: expected [1, 4, 2], got [2, 4, 2] float32");
    CHECK(complaint([&] {
            group_norm_with(picture, mx::zeros({1, 4, 2}, mx::bfloat16), w, w, 1e-6f, true);
          }) == "group norm moments: expected float32, got [1, 4, 2] bfloat16");
  }
}

}  // namespace
}  // namespace klein::ops::test
