#include "klein/pipeline/expand.h"

#include <doctest/doctest.h>

#include "klein/core/error.h"
#include "support/pictures.h"
#include "unit/io/support.h"

namespace klein {
namespace {

using io::test::error_of;
using test::pattern;

TEST_SUITE("pipeline/expand") {
  TEST_CASE("the picture stays in place and the new area is masked") {
    const auto picture = pattern(io::PictureMode::rgb, 40, 30);
    const auto [wide, mask] = expand(picture, {5, 6, 7, 8}, "a.png");
    CHECK(wide.width == 52);
    CHECK(wide.height == 44);
    for (int y = 0; y < 44; ++y)
      for (int x = 0; x < 52; ++x) {
        const auto at = static_cast<std::size_t>(y * 52 + x);
        const bool inside = x >= 5 && x < 45 && y >= 6 && y < 36;
        CHECK(mask.grey[at] == (inside ? 0 : 255));
        if (inside)
          CHECK(wide.pixels[3 * at] ==
                picture.pixels[3 * static_cast<std::size_t>((y - 6) * 40 + x - 5)]);
      }
  }

  TEST_CASE("a flat picture is continued flat, however large the margins are") {
    const io::Picture picture{3, 2, io::PictureMode::grey, false, {7, 7, 7, 7, 7, 7}};
    for (const auto value : expand(picture, {50, 0, 3, 41}, "a.png").picture.pixels)
      CHECK(value == 7);
  }

  TEST_CASE("next to the edge stands the mirror image, far away a soft one") {
    io::Picture picture{256, 64, io::PictureMode::rgb, false, {}};
    for (int y = 0; y < 64; ++y)
      for (int x = 0; x < 256; ++x)
        for (int c = 0; c < 3; ++c) picture.pixels.push_back(y % 8 < 4 ? 250 : 10);
    const auto wide = expand(picture, {0, 0, 64, 0}, "a.png").picture;
    const auto at = [&](int x, int y) {
      return int{wide.pixels[static_cast<std::size_t>(y * 320 + x) * 3]};
    };
    CHECK(at(256, 33) > 230);
    CHECK(at(256, 38) < 30);
    CHECK(std::abs(at(310, 33) - 130) < 25);
    CHECK(std::abs(at(310, 38) - 130) < 25);
  }

  TEST_CASE("the canvas of an expanded picture is painted over its edge, the result is not") {
    const auto picture = pattern(io::PictureMode::rgb, 100, 90);
    const Canvas canvas = make_expanded_canvas(picture, {0, 0, 44, 6}, "a.png");
    CHECK(canvas.picture.width == 144);
    CHECK(canvas.picture.height == 96);
    CHECK(canvas.mask.grey[84] == 255);
    CHECK(canvas.mask.grey[83] == 0);
    const io::Image white{144, 96, std::vector<std::uint8_t>(144 * 96 * 3, 255)};
    const io::Image result = finish(canvas, white, Preserve::blend);
    for (int y = 0; y < 90; ++y)
      for (int i = 0; i < 300; ++i)
        CHECK(result.rgb[static_cast<std::size_t>(y * 432 + i)] ==
              picture.pixels[static_cast<std::size_t>(y * 300 + i)]);
    CHECK(result.rgb[143 * 3] == 255);
  }

  TEST_CASE("margins that cannot be are refused") {
    const auto message = [](const Margins& margins) {
      const auto error =
          error_of([&] { expand(pattern(io::PictureMode::rgb, 20, 20), margins, "a.png"); });
      CHECK(error.kind() == ErrorKind::usage);
      return std::string(error.what());
    };
    CHECK(message({0, 0, 0, 0}) ==
          "expected margins of at least 0 pixels, one of them above, got 0, 0, 0, 0");
    CHECK(message({5, -1, 0, 0}) ==
          "expected margins of at least 0 pixels, one of them above, got 5, -1, 0, 0");
    CHECK(message({16364, 0, 1, 0}) ==
          "expected an expanded picture of at most 16384 pixels a side and 67108864 in all, got "
          "16385 x 20: a.png");
    CHECK(message({2147483647, 2147483647, 2147483647, 0}) ==
          "expected an expanded picture of at most 16384 pixels a side and 67108864 in all, got "
          "4294967314 x 2147483667: a.png");
    CHECK(message({10000, 10000, 0, 0}) ==
          "expected an expanded picture of at most 16384 pixels a side and 67108864 in all, got "
          "10020 x 10020: a.png");
  }
}

}  // namespace
}  // namespace klein
