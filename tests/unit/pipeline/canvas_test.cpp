#include "klein/pipeline/canvas.h"

#include <algorithm>
#include <cstdlib>

#include <doctest/doctest.h>

#include "klein/core/error.h"
#include "klein/io/resize.h"
#include "klein/pipeline/nearest.h"
#include "support/pictures.h"
#include "unit/io/support.h"

namespace klein {
namespace {

using io::test::error_of;
using test::filled_mask;
using test::paint;
using test::pattern;
using Bytes = std::vector<std::uint8_t>;

io::GreyImage mask_with(int width, int height, const Box& box, int value = 255) {
  auto mask = filled_mask(width, height, 0);
  paint(mask, box.left, box.top, box.right, box.bottom, value);
  return mask;
}

io::Image flat(int width, int height, std::uint8_t value) {
  return {width, height, Bytes(3 * static_cast<std::size_t>(width * height), value)};
}

std::string message(const MaskedPicture& original, const CanvasOptions& options = {}) {
  return error_of([&] { make_canvas(original, options); }).what();
}

/// How many pixels whose mask is 0 differ from the original.
int changed(const Canvas& canvas, const io::Image& result) {
  REQUIRE(result.width == canvas.original.width);
  REQUIRE(result.height == canvas.original.height);
  int count = 0;
  for (std::size_t i = 0; i < canvas.original_mask.grey.size(); ++i)
    for (std::size_t c = 0; c < 3; ++c)
      count += canvas.original_mask.grey[i] == 0 &&
               result.rgb[3 * i + c] != canvas.original.rgb[3 * i + c];
  return count;
}

TEST_SUITE("pipeline/canvas") {
  TEST_CASE("covering keeps proportions and cuts what is too much") {
    const io::Picture picture{4, 2, io::PictureMode::grey, false, {9, 10, 20, 9, 9, 30, 40, 9}};
    CHECK(cover(picture, 2, 2).rgb == Bytes{10, 10, 10, 20, 20, 20, 30, 30, 30, 40, 40, 40});
    CHECK(error_of([&] { cover(picture, 0, 2); }).kind() == ErrorKind::shape);
  }

  TEST_CASE("a mask is black and white unless it is soft") {
    auto mask = filled_mask(32, 32, 127);
    paint(mask, 0, 0, 16, 32, 128);
    const MaskedPicture original{pattern(io::PictureMode::rgb, 32, 32), mask};
    const Canvas hard = make_canvas(original);
    CHECK(hard.mask.grey[0] == 255);
    CHECK(hard.mask.grey[31] == 0);
    CHECK(hard.original_mask.grey[31] == 127);
    CHECK(make_canvas(original, {.padding_mask_crop = {}, .soft = true, .grow = 0}).mask.grey ==
          mask.grey);
  }

  TEST_CASE("a mask grows around its white parts, unseen") {
    const Canvas canvas =
        make_canvas({pattern(io::PictureMode::rgb, 32, 32), mask_with(32, 32, {16, 16, 17, 17})},
                    {.padding_mask_crop = {}, .soft = false, .grow = 2});
    CHECK(std::count(canvas.mask.grey.begin(), canvas.mask.grey.end(), 255) == 13);  // a disc
    CHECK(changed(canvas, finish(canvas, flat(32, 32, 0), Preserve::exact)) == 0);
  }

  TEST_CASE("without a crop nothing is preserved unless that is asked for") {
    const Canvas canvas =
        make_canvas({pattern(io::PictureMode::rgb, 50, 40), mask_with(50, 40, {10, 10, 30, 30})});
    CHECK(canvas.picture.width == 48);
    CHECK(canvas.picture.height == 32);
    const io::Image generated = flat(48, 32, 200);
    CHECK(finish(canvas, generated, Preserve::none).rgb == generated.rgb);
    const io::Image exact = finish(canvas, generated, Preserve::exact);
    CHECK(changed(canvas, exact) == 0);
    CHECK(exact.rgb[(10 * 50 + 10) * 3] == 200);
    CHECK(exact.rgb[(29 * 50 + 29) * 3] == 200);
  }

  TEST_CASE("unmasked pixels keep their bytes for every size, mask, crop and mode") {
    for (const auto& [width, height] : {std::pair{64, 48}, {97, 61}, {33, 200}})
      for (const auto& box : {Box{0, 0, 5, 5}, Box{20, 11, 31, 40}, Box{32, 0, 33, 48}})
        for (const auto padding : {std::optional<int>(), std::optional<int>(0), std::optional(9)})
          for (const auto mode : {io::PictureMode::rgb, io::PictureMode::rgba})
            for (const bool soft : {false, true}) {
              auto mask = mask_with(width, height, box, 210);
              paint(mask, box.left, box.top, box.right, box.top + 2, 30);
              const Canvas canvas = make_canvas({pattern(mode, width, height), mask},
                                                {.padding_mask_crop = padding, .soft = soft});
              const auto generated = flat(canvas.picture.width, canvas.picture.height, 255);
              for (const auto preserve : {Preserve::exact, Preserve::blend})
                CHECK(changed(canvas, finish(canvas, generated, preserve)) == 0);
              if (padding) CHECK(changed(canvas, finish(canvas, generated, Preserve::none)) == 0);
            }
  }

  TEST_CASE("a crop comes back where it was taken, at its scale") {
    // A smooth picture: what is enlarged and scaled back is nearly itself, but not when shifted.
    io::Picture picture{160, 120, io::PictureMode::rgb, false, {}};
    for (int y = 0; y < 120; ++y)
      for (int x = 0; x < 160; ++x)
        for (const int value : {x + 20, 2 * y, (x + y) / 2})
          picture.pixels.push_back(static_cast<std::uint8_t>(value));
    for (const auto& box : {Box{100, 30, 120, 40}, Box{5, 70, 12, 110}, Box{0, 0, 150, 9}}) {
      const Canvas canvas = make_canvas({picture, mask_with(160, 120, box)},
                                        {.padding_mask_crop = 8, .soft = false, .grow = 0});
      CHECK(canvas.picture.width == 160);
      const io::Image result = finish(canvas, canvas.picture, Preserve::none);
      int worst = 0;
      for (std::size_t i = 0; i < result.rgb.size(); ++i)
        worst = std::max(worst, std::abs(result.rgb[i] - picture.pixels[i]));
      CHECK(worst <= 1);
    }
  }

  TEST_CASE("blending fades the new pixels in from the mask's edge") {
    io::Picture picture = picture_of(flat(256, 256, 0));
    const Canvas canvas = make_canvas({picture, mask_with(256, 256, {64, 64, 192, 192})});
    const io::Image result = finish(canvas, flat(256, 256, 255), Preserve::blend);
    const auto at = [&](int x) {
      return int{result.rgb[static_cast<std::size_t>(128 * 256 + x) * 3]};
    };
    CHECK(at(63) == 0);
    // Over 4 pixels t^2 (3 - 2 t) with t = 1/5, 2/5, ...: 0.104, 0.352, 0.648, 0.896, 1.
    CHECK(at(64) == 27);
    CHECK(at(65) == 90);
    CHECK(at(66) == 165);
    CHECK(at(67) == 228);
    CHECK(at(68) == 255);
    CHECK(at(191) == 27);
  }

  TEST_CASE("what is thinner than the fade is painted in full") {
    auto mask = mask_with(256, 256, {10, 100, 110, 200});
    paint(mask, 200, 0, 202, 256, 255);  // a wire
    const Canvas canvas = make_canvas({picture_of(flat(256, 256, 0)), mask});
    const io::Image result = finish(canvas, flat(256, 256, 255), Preserve::blend);
    CHECK(result.rgb[(150 * 256 + 200) * 3] == 255);
    CHECK(result.rgb[(150 * 256 + 10) * 3] == 27);
  }

  TEST_CASE("a picture that is all mask is replaced") {
    const Canvas canvas =
        make_canvas({pattern(io::PictureMode::rgb, 40, 40), filled_mask(40, 40, 255)});
    const io::Image result = finish(canvas, flat(32, 32, 9), Preserve::blend);
    CHECK(result.rgb == flat(40, 40, 9).rgb);
  }

  TEST_CASE("masks and pictures that do not fit are refused") {
    const auto picture = pattern(io::PictureMode::rgb, 64, 48);
    CHECK(message({picture, filled_mask(48, 64, 255)}) ==
          "expected a mask as large as the picture, 64 x 48, got 48 x 64");
    CHECK(message({picture, filled_mask(64, 48, 127)}) ==
          "expected a mask with white parts, got one that is black");
    CHECK(message({picture, filled_mask(64, 48, 0)},
                  {.padding_mask_crop = 3, .soft = true, .grow = 0}) ==
          "expected a mask with white parts, got one that is black");
    CHECK(message({picture, filled_mask(64, 48, 255)},
                  {.padding_mask_crop = -1, .soft = false, .grow = 0}) ==
          "expected a mask padding of at least 0, got -1");
    CHECK(message({picture, filled_mask(64, 48, 255)},
                  {.padding_mask_crop = {}, .soft = false, .grow = -2}) ==
          "expected a mask to grow by at least 0, got -2");
    CHECK(message({pattern(io::PictureMode::rgb, 15, 48), filled_mask(15, 48, 255)}) ==
          "expected a picture of at least 16 x 16 pixels at a size of about 1048576 in all, got 15 "
          "x 48");
    CHECK(message(
              {pattern(io::PictureMode::grey, 3000, 2000), mask_with(3000, 2000, {7, 7, 8, 8})}) ==
          "expected a mask with white parts that are left at 1248 x 832 pixels, got smaller ones");
    const Canvas canvas = make_canvas({picture, filled_mask(64, 48, 255)});
    const auto error = error_of([&] { finish(canvas, flat(48, 64, 0), Preserve::none); });
    CHECK(error.kind() == ErrorKind::shape);
    CHECK(std::string(error.what()) == "expected a generated picture of 64 x 48, got 48 x 64");
  }

  TEST_CASE("transparent parts become the mask and take the nearest opaque colours") {
    const io::Picture picture{
        3, 1, io::PictureMode::rgba, false, {10, 20, 30, 255, 0, 0, 0, 0, 110, 120, 130, 51}};
    const MaskedPicture result = mask_transparent(picture, "a.png");
    CHECK(result.mask.grey == Bytes{0, 255, 204});
    // The last one: a fifth its own colour.
    CHECK(result.picture.pixels == Bytes{10, 20, 30, 10, 20, 30, 30, 40, 50});
    CHECK(result.picture.mode == io::PictureMode::rgb);
  }

  TEST_CASE("a picture without transparent parts has no mask") {
    const auto refusal = [](const io::Picture& picture) {
      return std::string(error_of([&] { mask_transparent(picture, "a.png"); }).what());
    };
    CHECK(refusal({1, 1, io::PictureMode::rgb, false, {1, 2, 3}}) ==
          "expected a picture with transparent parts to paint, got one without an alpha channel: "
          "a.png");
    CHECK(refusal({1, 1, io::PictureMode::grey_alpha, false, {1, 255}}) ==
          "expected a picture with transparent parts to paint, got one that is opaque: a.png");
    CHECK(refusal({1, 1, io::PictureMode::grey_alpha, false, {1, 0}}) ==
          "expected a picture with transparent parts to paint, got one that is transparent all "
          "over: a.png");
  }
}

TEST_SUITE("pipeline/nearest") {
  TEST_CASE("every pixel knows the way to the nearest marked one") {
    constexpr int kWidth = 23, kHeight = 17;
    for (const int density : {2, 40, 200}) {
      Bytes marked(kWidth * kHeight);
      unsigned state = 7;
      for (auto& value : marked)
        value = (state = state * 1103515245 + 12345) / 65536 % static_cast<unsigned>(density) == 0;
      marked[5] = 1;
      const auto ways = ways_to_nearest(marked, kWidth, kHeight);
      for (int i = 0; i < kWidth * kHeight; ++i) {
        int best = 1 << 30;
        for (int j = 0; j < kWidth * kHeight; ++j)
          if (marked[static_cast<std::size_t>(j)] != 0)
            best = std::min(best, Step{static_cast<std::int16_t>(j % kWidth - i % kWidth),
                                       static_cast<std::int16_t>(j / kWidth - i / kWidth)}
                                      .squared());
        const Step way = ways[static_cast<std::size_t>(i)];
        CHECK(marked[static_cast<std::size_t>(i + way.dx + kWidth * way.dy)] != 0);
        CHECK(way.squared() >= best);
        CHECK(way.squared() <= best + 4);
      }
    }
  }

  TEST_CASE("where nothing is marked every way is zero") {
    for (const Step& way : ways_to_nearest(Bytes(12), 4, 3)) CHECK(way.squared() == 0);
  }
}

}  // namespace
}  // namespace klein
