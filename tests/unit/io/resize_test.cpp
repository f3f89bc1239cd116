#include "klein/io/resize.h"

#include <doctest/doctest.h>

#include "support/pictures.h"
#include "unit/io/support.h"

namespace klein::io {
namespace {

using klein::test::pattern;
using test::error_of;
using Bytes = std::vector<std::uint8_t>;

const Picture kRow{4, 1, PictureMode::grey, false, {0, 100, 200, 40}};

TEST_SUITE("io/resize") {
  TEST_CASE("bilinear halving weighs four pixels by their distance") {
    // Weights 3, 3, 1 of 7 at the left edge, 1, 3, 3 at the right.
    CHECK(resize(kRow, 2, 1, Filter::bilinear).pixels == Bytes{71, 117});
  }

  TEST_CASE("nearest takes the pixel under each centre") {
    CHECK(resize(kRow, 2, 1, Filter::nearest).pixels == Bytes{100, 40});
    CHECK(resize(kRow, 8, 1, Filter::nearest).pixels == Bytes{0, 0, 100, 100, 200, 200, 40, 40});
  }

  TEST_CASE("indexed pictures keep their pixels whatever the filter") {
    Picture picture = kRow;
    picture.indexed = true;
    const Picture scaled = resize(picture, 2, 1, Filter::lanczos);
    CHECK(scaled.pixels == Bytes{100, 40});
    CHECK(scaled.indexed);
  }

  TEST_CASE("the colour of transparent pixels does not shine through") {
    const Picture picture{2, 1, PictureMode::rgba, false, {200, 100, 50, 255, 0, 255, 0, 0}};
    const Picture scaled = resize(picture, 1, 1, Filter::bilinear);
    // 200 half covered is 100, and 255 * 100 / 128 is 199.
    CHECK(scaled.pixels == Bytes{199, 99, 49, 128});
  }

  TEST_CASE("the same size is the same picture, a flat one stays flat") {
    for (const auto mode :
         {PictureMode::grey, PictureMode::grey_alpha, PictureMode::rgb, PictureMode::rgba}) {
      const Picture picture = pattern(mode, 19, 7);
      CHECK(resize(picture, 19, 7).pixels == picture.pixels);
    }
    const GreyImage flat = klein::test::filled_mask(50, 30, 77);
    for (const auto filter : {Filter::nearest, Filter::bilinear, Filter::bicubic, Filter::lanczos})
      CHECK(resize(flat, 17, 90, filter).grey == Bytes(17 * 90, 77));
  }

  TEST_CASE("RGB images and grey ones are scaled like pictures") {
    const Picture rgb = pattern(PictureMode::rgb, 30, 20),
                  grey = pattern(PictureMode::grey, 30, 20);
    CHECK(resize(Image{30, 20, rgb.pixels}, 11, 13).rgb == resize(rgb, 11, 13).pixels);
    CHECK(resize(GreyImage{30, 20, grey.pixels}, 11, 13).grey == resize(grey, 11, 13).pixels);
  }

  TEST_CASE("a crop takes the pixels that it names") {
    const Picture picture{
        3, 2, PictureMode::grey_alpha, false, {1, 10, 2, 20, 3, 30, 4, 40, 5, 50, 6, 60}};
    CHECK(crop(picture, 1, 0, 2, 2).pixels == Bytes{2, 20, 3, 30, 5, 50, 6, 60});
    CHECK(crop(GreyImage{2, 2, {1, 2, 3, 4}}, 0, 1, 2, 1).grey == Bytes{3, 4});
    CHECK(crop(Image{1, 1, {1, 2, 3}}, 0, 0, 1, 1).rgb == Bytes{1, 2, 3});
  }

  TEST_CASE("sizes and parts that cannot be are refused") {
    const auto message = [](const auto& act) {
      const auto error = error_of(act);
      CHECK(error.kind() == ErrorKind::shape);
      return std::string(error.what());
    };
    CHECK(message([] { resize(kRow, 0, 3); }) == "expected a size of at least 1 x 1, got 0 x 3");
    CHECK(message([] {
            resize(kRow, 2, 1, Filter::lanczos, Region{0, 0, 5, 1});
          }) == "expected a part of a picture of 4 x 1, got 0, 0 to 5, 1");
    CHECK(message([] {
            resize(kRow, 2, 1, Filter::lanczos, Region{2, 0, 1, 1});
          }) == "expected a part of a picture of 4 x 1, got 2, 0 to 1, 1");
    CHECK(message([] { crop(kRow, 2, 0, 3, 1); }) ==
          "expected a part of a picture of 4 x 1, got 3 x 1 from 2, 0 on");
    CHECK(message([] { crop(kRow, -1, 0, 1, 1); }) ==
          "expected a part of a picture of 4 x 1, got 1 x 1 from -1, 0 on");
    CHECK(message([] {
            resize(Picture{2, 2, PictureMode::rgb, false, Bytes(3)}, 1, 1);
          }) == "expected a picture of width x height x 3 values, got 2 x 2 with 3");
  }
}

}  // namespace
}  // namespace klein::io
