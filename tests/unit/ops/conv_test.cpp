#include "klein/ops/conv.h"

#include "unit/ops/support.h"

namespace klein::ops::test {
namespace {

struct Sizes {
  int batch, height, width, channels, filters, kernel, stride;
  Padding padding;
};

TEST_SUITE("ops/conv") {
  TEST_CASE("the kernels agree with the portable version") {
    for (const auto& s :
         {Sizes{2, 6, 9, 5, 7, 3, 1, {1, 1, 1, 1}}, Sizes{1, 5, 7, 6, 10, 1, 1, {}},
          Sizes{2, 8, 10, 6, 6, 3, 2, {0, 1, 0, 1}}, Sizes{1, 3, 3, 4, 2, 3, 1, {}},
          Sizes{1, 16, 16, 32, 48, 3, 1, {1, 1, 1, 1}}, Sizes{1, 9, 4, 3, 16, 3, 1, {2, 0, 1, 3}}})
      for (const auto x_type : kDtypes)
        for (const auto w_type : kDtypes) {
          const auto x = noise({s.batch, s.height, s.width, s.channels}, x_type, 1);
          const auto w = noise({s.filters, s.kernel, s.kernel, s.channels}, w_type, 2, 0.2f);
          const auto b = noise({s.filters}, w_type, 3);
          check_backends("plain", [&] { return conv2d(x, w, std::nullopt, s.stride, s.padding); });
          check_backends("bias", [&] { return conv2d(x, w, b, s.stride, s.padding); });
        }
  }

  TEST_CASE("a picture of several stripes has no seams") {
    for (const int stride : {1, 2}) {
      const auto x = noise({1, 301, 257, 64}, mx::bfloat16, 1);
      const auto w = noise({4, 3, 3, 64}, mx::bfloat16, 2, 0.05f), b = noise({4}, mx::bfloat16, 3);
      check_backends("stripes", [&] { return conv2d(x, w, b, stride, Padding{1, 1, 1, 1}); });
    }
  }

  TEST_CASE("pictures and weights may be views") {
    const auto x = mx::transpose(noise({1, 6, 5, 7}, mx::float32, 1), {0, 2, 3, 1});
    const auto w = mx::transpose(noise({8, 6, 3, 3}, mx::float32, 2), {0, 2, 3, 1});
    check_backends("views", [&] { return conv2d(x, w, std::nullopt, 1, 1); });
  }

  TEST_CASE("a kernel of ones sums what it covers, zeros outside") {
    const auto x = mx::ones({1, 2, 3, 1}), w = mx::ones({1, 3, 3, 1});
    for (const auto backend : {Backend::native, Backend::portable})
      CHECK(values(computed(backend, [&] { return conv2d(x, w, std::nullopt, 1, 1); })) ==
            std::vector<float>{4.0f, 6.0f, 4.0f, 4.0f, 6.0f, 4.0f});
  }

  TEST_CASE("upsampling repeats pixels") {
    for (const auto dtype : kDtypes) {
      const auto x = noise({2, 3, 5, 6}, dtype, 1);
      check_backends("upsampling", [&] { return upsample_nearest_2x(x); });
      check_backends("of a view", [&] {
        return upsample_nearest_2x(mx::transpose(x, {0, 2, 1, 3}));
      });
    }
    const auto small = mx::reshape(mx::array({1.0f, 2.0f}), {1, 1, 2, 1});
    CHECK(values(computed(Backend::native, [&] { return upsample_nearest_2x(small); })) ==
          std::vector<float>{1, 1, 2, 2, 1, 1, 2, 2});
  }

  TEST_CASE("sizes that do not fit are refused") {
    const auto x = mx::zeros({1, 4, 4, 3});
    CHECK(complaint([&] {
            ops::conv2d(x, mx::zeros({2, 3, 3, 5}));
          }) == "convolution input: expected last axis 5, got [1, 4, 4, 3] float32");
    CHECK(complaint([&] {
            ops::conv2d(x, mx::zeros({2, 5, 5, 3}));
          }) ==
          "convolution: kernel [2, 5, 5, 3] float32 is larger than the padded picture [1, 4, 4, 3] "
          "float32");
    CHECK(
        complaint([&] {
          ops::conv2d(x, mx::zeros({2, 3, 3, 3}), std::nullopt, 0, 1);
        }) ==
        "convolution: expected a stride from 1 and padding from 0, got stride 0 and padding 1, 1, "
        "1, 1");
    CHECK(complaint([&] {
            upsample_nearest_2x(mx::zeros({2, 2}));
          }) == "upsampling input: expected 4 axes, got [2, 2] float32");
  }
}

}  // namespace
}  // namespace klein::ops::test
