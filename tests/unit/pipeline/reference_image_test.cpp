#include "klein/pipeline/reference_image.h"

#include <doctest/doctest.h>

#include "klein/core/error.h"
#include "support/pictures.h"
#include "unit/io/support.h"

namespace klein {
namespace {

using io::test::error_of;
using test::pattern;

TEST_SUITE("pipeline/reference_image") {
  TEST_CASE("an area above a million pixels is scaled to one, sides rounded down") {
    CHECK(capped_size(1024, 1024).width == 1024);
    const auto [width, height] = capped_size(4000, 3000);
    CHECK(width == 1182);  // 4000 sqrt(1048576 / 12000000) = 1182.4
    CHECK(height == 886);  // 886.8
    CHECK(capped_size(64, 9).height == 9);
  }

  TEST_CASE("sides become multiples of 16, cut at the centre") {
    const auto picture = pattern(io::PictureMode::rgb, 70, 101);
    const io::Image image = prepare_reference(picture, "a.png");
    CHECK(image.width == 64);
    CHECK(image.height == 96);
    // 3 pixels left of it, 2 rows above.
    const std::size_t first = (2 * 70 + 3) * 3;
    CHECK(image.rgb[0] == picture.pixels[first]);
    CHECK(image.rgb[1] == picture.pixels[first + 1]);
  }

  TEST_CASE("small and narrow references are refused") {
    const auto message = [](int width, int height) {
      const auto error = error_of(
          [&] { prepare_reference(pattern(io::PictureMode::grey, width, height), "a.png"); });
      CHECK(error.kind() == ErrorKind::usage);
      return std::string(error.what());
    };
    CHECK(message(63, 64) ==
          "expected a reference picture of at least 64 x 64 pixels, got 63 x 64: a.png");
    CHECK(message(900, 20) ==
          "expected a reference picture of at least 64 x 64 pixels, got 900 x 20: a.png");
    CHECK(message(64, 513) ==
          "expected a reference picture whose longer side is at most 8 times the other, got 64 x "
          "513: a.png");
    CHECK(prepare_reference(pattern(io::PictureMode::grey, 512, 64), "a.png").width == 512);
  }
}

}  // namespace
}  // namespace klein
