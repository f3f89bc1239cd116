#include "klein/io/picture.h"

#include <doctest/doctest.h>

#include "klein/io/file.h"
#include "klein/io/orientation.h"
#include "support/pictures.h"
#include "unit/io/support.h"

namespace klein::io {
namespace {

using test::content;
using test::error_of;
using test::message_of;
using test::TempDir;
using Bytes = std::vector<std::uint8_t>;

std::string file_of(const std::string& name) {
  return content(KLEIN_TEST_FIXTURES "/pictures/files/" + name);
}

Picture decoded(const std::string& text) {
  return decode_picture(as_bytes(text), "a picture");
}

/// A TIFF header and one entry.
std::string exif_with(std::uint16_t tag, char type, char count, char value) {
  std::string text("II*\0\x08\0\0\0\x01\0", 10);
  text += {static_cast<char>(tag & 0xff), static_cast<char>(tag >> 8), type, 0};
  text += {count, 0, 0, 0, value, 0, 0, 0};
  return text + std::string(4, '\0');
}

int orientation(const std::string& exif) {
  return orientation_in(as_bytes(exif));
}

TEST_SUITE("io/picture") {
  TEST_CASE("a picture keeps the mode of its file") {
    const auto is = [](const char* name, PictureMode mode, bool indexed) {
      CAPTURE(name);
      const Picture picture = decoded(file_of(name));
      CHECK(picture.mode == mode);
      CHECK(picture.indexed == indexed);
      CHECK_NOTHROW(expect_whole(picture));
    };
    is("rgb.png", PictureMode::rgb, false);
    is("rgba.png", PictureMode::rgba, false);
    is("grey.png", PictureMode::grey, false);
    is("grey_alpha.png", PictureMode::grey_alpha, false);
    is("palette.png", PictureMode::rgb, true);
    is("palette_alpha.png", PictureMode::rgba, true);
    is("one_bit.png", PictureMode::grey, true);
    is("grey.jpg", PictureMode::grey, false);
    is("cmyk.jpg", PictureMode::rgb, false);
    is("rgba.webp", PictureMode::rgba, false);
  }

  TEST_CASE("modes have channels, the last of some is alpha") {
    CHECK(channels(PictureMode::grey) == 1);
    CHECK(channels(PictureMode::grey_alpha) == 2);
    CHECK(channels(PictureMode::rgb) == 3);
    CHECK(channels(PictureMode::rgba) == 4);
    CHECK(has_alpha(PictureMode::grey_alpha));
    CHECK_FALSE(has_alpha(PictureMode::rgb));
  }

  TEST_CASE("conversions drop alpha, repeat grey and weigh colours") {
    const Picture rgba{2, 1, PictureMode::rgba, false, {255, 0, 0, 7, 0, 0, 255, 0}};
    CHECK(to_rgb(rgba).rgb == Bytes{255, 0, 0, 0, 0, 255});
    CHECK(to_grey(rgba).grey == Bytes{76, 29});  // 255 * 0.299 = 76.2; 255 * 0.114 = 29.1
    CHECK(alpha_of(rgba)->grey == Bytes{7, 0});
    const Picture grey{1, 1, PictureMode::grey_alpha, false, {9, 8}};
    CHECK(to_rgb(grey).rgb == Bytes{9, 9, 9});
    CHECK(to_grey(grey).grey == Bytes{9});
    CHECK(alpha_of(grey)->grey == Bytes{8});
    CHECK_FALSE(alpha_of(picture_of({1, 1, {1, 2, 3}})).has_value());
  }

  TEST_CASE("each orientation turns a picture as EXIF numbers them") {
    // 1 2 3    the first row and column of the picture as it is seen, by orientation
    // 4 5 6
    const Picture picture{3, 2, PictureMode::grey, false, {1, 2, 3, 4, 5, 6}};
    const auto turned = [&](int value) { return turn_upright(picture, value).pixels; };
    CHECK(turned(1) == Bytes{1, 2, 3, 4, 5, 6});
    CHECK(turned(2) == Bytes{3, 2, 1, 6, 5, 4});
    CHECK(turned(3) == Bytes{6, 5, 4, 3, 2, 1});
    CHECK(turned(4) == Bytes{4, 5, 6, 1, 2, 3});
    CHECK(turned(5) == Bytes{1, 4, 2, 5, 3, 6});
    CHECK(turned(6) == Bytes{4, 1, 5, 2, 6, 3});
    CHECK(turned(7) == Bytes{6, 3, 5, 2, 4, 1});
    CHECK(turned(8) == Bytes{3, 6, 2, 5, 1, 4});
    CHECK(turn_upright(picture, 6).width == 2);
    CHECK(turned(0) == picture.pixels);
    CHECK(turned(9) == picture.pixels);
  }

  TEST_CASE("an orientation is found with and without the prefix, anything else is upright") {
    const std::string good = exif_with(0x112, 3, 1, 6);
    CHECK(orientation(good) == 6);
    CHECK(orientation(std::string("Exif\0\0", 6) + good) == 6);
    CHECK(orientation(exif_with(0x112, 4, 1, 6)) == 6);  // LONG, as some programs write it
    CHECK(orientation(exif_with(0x112, 3, 1, 0)) == 1);
    CHECK(orientation(exif_with(0x112, 3, 1, 9)) == 1);
    CHECK(orientation(exif_with(0x112, 3, 0, 6)) == 1);
    CHECK(orientation(exif_with(0x112, 2, 1, 6)) == 1);
    CHECK(orientation(exif_with(0x113, 3, 1, 6)) == 1);
    CHECK(orientation("") == 1);
    for (std::size_t kept = 0; kept < good.size() - 6; ++kept) {
      CAPTURE(kept);
      CHECK_NOTHROW(orientation(good.substr(0, kept)));
    }
    for (std::size_t i = 0; i < good.size(); ++i) {
      std::string damaged = good;
      damaged[i] = static_cast<char>(0xff);
      const int value = orientation(damaged);
      CHECK((value >= 1 && value <= 8));
    }
  }

  TEST_CASE("a picture has to be as long as it says") {
    const auto message = [](const Picture& picture) {
      return std::string(error_of([&] { to_rgb(picture); }).what());
    };
    CHECK(message({2, 2, PictureMode::rgba, false, Bytes(15)}) ==
          "expected a picture of width x height x 4 values, got 2 x 2 with 15");
    CHECK(message({0, 5, PictureMode::grey, false, {}}) ==
          "expected a picture of width x height x 1 values, got 0 x 5 with 0");
    CHECK(error_of([] { expect_whole(GreyImage{2, 1, {1}}); }).kind() == ErrorKind::shape);
    CHECK(error_of([] { expect_whole(Image{1, 1, {1}}); }).kind() == ErrorKind::shape);
  }

  TEST_CASE("what is no picture, or no whole one, is refused by its content") {
    const TempDir dir;
    CHECK(message_of(dir, [&] { load_picture(dir.file("a.png", "")); }) ==
          "expected a PNG, JPEG or WebP picture, got an empty file: DIR/a.png");
    CHECK(message_of(dir, [&] { load_picture(dir.file("b.jpg", "BM......")); }) ==
          "expected a PNG, JPEG or WebP picture, got \"BM......\": DIR/b.jpg");
    CHECK(load_picture(dir.file("c.jpg", file_of("rgb.webp"))).width == 24);
    const std::string cmyk = file_of("cmyk.jpg");
    CHECK(message_of(dir, [&] { load_picture(dir.file("d.jpg", cmyk.substr(0, 700))); }) ==
          "broken JPEG picture (Premature end of JPEG file): DIR/d.jpg");
  }

  TEST_CASE("a picture with EXIF cut short anywhere is an error, never a crash") {
    for (const auto* name : {"orientation_6.jpg", "orientation_6.png", "orientation_6.webp"}) {
      CAPTURE(name);
      const std::string file = file_of(name);
      for (std::size_t kept = 0; kept + 20 < file.size(); ++kept) {
        try {
          expect_whole(decoded(file.substr(0, kept)));
        } catch (const Error& error) {
          CHECK(error.kind() == ErrorKind::format);
        }
      }
    }
  }
}

}  // namespace
}  // namespace klein::io
