#include "klein/ops/rope.h"

#include "klein/ops/norm.h"
#include "unit/ops/support.h"

namespace klein::ops::test {
namespace {

struct Tables {
  mx::array cosines, sines;
};

Tables tables(int tokens, int width, mx::Dtype dtype) {
  const auto angles = noise({tokens, width / 2}, mx::float32, 9, 3.0f);
  return {mx::astype(mx::cos(angles), dtype), mx::astype(mx::sin(angles), dtype)};
}

TEST_SUITE("ops/rope") {
  TEST_CASE("the kernels agree with the portable versions") {
    for (const int width : {2, 6, 16, 32, 64, 128})
      for (const auto dtype : kDtypes) {
        const auto x = noise({2, 7, 3, width}, dtype, 1), w = noise({width}, dtype, 2);
        const auto [c, s] = tables(7, width, mx::float32);
        const auto [own_c, own_s] = tables(7, width, dtype);
        check_backends("interleaved", [&] { return rope_interleaved(x, c, s); });
        check_backends("half", [&] { return rope_half(x, own_c, own_s); });
        check_backends("normed", [&] { return rms_norm_rope_interleaved(x, w, 1e-6f, c, s); });
      }
  }

  TEST_CASE("norm and rotation in one pass are the two passes, bit for bit") {
    const auto wide = noise({2, 7, 5, 200}, mx::bfloat16, 1), w = noise({128}, mx::bfloat16, 2);
    const auto x = mx::slice(wide, {0, 0, 0, 40}, {2, 7, 5, 168});
    const auto [c, s] = tables(7, 128, mx::float32);
    for (const auto dtype : kDtypes) {
      const auto in = mx::astype(x, dtype);
      const auto fused =
          computed(Backend::native, [&] { return rms_norm_rope_interleaved(in, w, 1e-6f, c, s); });
      const auto apart =
          computed(Backend::native, [&] { return rope_interleaved(rms_norm(in, w, 1e-6f), c, s); });
      CHECK(values(fused) == values(apart));
    }
  }

  TEST_CASE("a head wider than the fused kernel takes still works") {
    const auto x = noise({1, 2, 1, 2048}, mx::float32, 1), w = noise({2048}, mx::float32, 2);
    const auto [c, s] = tables(2, 2048, mx::float32);
    check_backends("wide", [&] { return rms_norm_rope_interleaved(x, w, 1e-6f, c, s); });
  }

  TEST_CASE("a quarter turn moves adjacent numbers or halves") {
    const auto x = mx::reshape(mx::array({1.0f, 2.0f, 3.0f, 4.0f}), {1, 1, 1, 4});
    const auto zeros = mx::zeros({1, 2}), ones = mx::ones({1, 2});
    for (const auto backend : {Backend::native, Backend::portable}) {
      CHECK(values(computed(backend, [&] { return rope_interleaved(x, zeros, ones); })) ==
            std::vector<float>{-2.0f, 1.0f, -4.0f, 3.0f});
      CHECK(values(computed(backend, [&] { return rope_half(x, zeros, ones); })) ==
            std::vector<float>{-3.0f, -4.0f, 1.0f, 2.0f});
    }
  }

  TEST_CASE("tables that do not fit are refused") {
    const auto x = mx::zeros({1, 3, 2, 8}, mx::bfloat16);
    const auto good = mx::zeros({3, 4}), half = mx::zeros({3, 4}, mx::bfloat16);
    CHECK(complaint([&] {
            rope_interleaved(x, mx::zeros({4, 4}), good);
          }) == "rotary cosines: expected [3, 4], got [4, 4] float32");
    CHECK(complaint([&] { rope_interleaved(x, half, good); }) ==
          "rotary cosines: expected float32, got [3, 4] bfloat16");
    CHECK(complaint([&] { rope_half(x, good, good); }) ==
          "rotary embedding input and cosines: expected one dtype, got [1, 3, 2, 8] bfloat16 and "
          "[3, 4] float32");
    CHECK(complaint([&] {
            rope_half(mx::zeros({1, 3, 2, 7}), good, good);
          }) == "rotary embedding input: expected an even last axis, got [1, 3, 2, 7] float32");
  }
}

}  // namespace
}  // namespace klein::ops::test
