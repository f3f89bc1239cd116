#include "klein/io/image.h"

#include <algorithm>
#include <cstdlib>
#include <cstring>

#include <doctest/doctest.h>

#include "klein/io/file.h"
#include "unit/io/pictures.h"
#include "unit/io/support.h"

namespace klein::io {
namespace {

using test::error_of;
using test::message_of;
using test::TempDir;

std::string from_hex(std::string_view hex) {
  const auto digit = [](char c) { return c <= '9' ? c - '0' : c - 'a' + 10; };
  std::string bytes;
  for (std::size_t i = 0; i + 1 < hex.size(); i += 2)
    bytes += static_cast<char>(digit(hex[i]) * 16 + digit(hex[i + 1]));
  return bytes;
}

std::string file_of(std::string_view name) {
  for (const auto& picture : test::kPictures)
    if (name == picture.name) return from_hex(picture.file);
  FAIL("no such picture");
  return {};
}

Image decode_text(const std::string& text) {
  return decode(as_bytes(text), "a picture");
}

/// A picture with smooth parts and edges.
Image sample(int width, int height) {
  Image image{width, height, {}};
  for (int y = 0; y < height; ++y)
    for (int x = 0; x < width; ++x)
      for (const int value :
           {x * 255 / width, y * 255 / height, (x / 16 + y / 16) % 2 == 0 ? 200 : 30})
        image.rgb.push_back(static_cast<std::uint8_t>(value));
  return image;
}

double mean_difference(const Image& a, const Image& b) {
  REQUIRE(a.rgb.size() == b.rgb.size());
  double sum = 0;
  for (std::size_t i = 0; i < a.rgb.size(); ++i) sum += std::abs(a.rgb[i] - b.rgb[i]);
  return sum / static_cast<double>(a.rgb.size());
}

bool contains(const std::vector<std::byte>& bytes, std::string_view text) {
  const std::string_view all(reinterpret_cast<const char*>(bytes.data()), bytes.size());
  return all.find(text) != all.npos;
}

void put_32(std::string& file, std::size_t at, std::uint32_t value) {
  for (int i = 0; i < 4; ++i)
    file[at + static_cast<std::size_t>(i)] = static_cast<char>(value >> (24 - 8 * i) & 0xff);
}

/// The checksum of a PNG chunk, bit by bit as the PNG specification defines it.
std::uint32_t crc_of(std::string_view data) {
  std::uint32_t crc = 0xffffffff;
  for (const unsigned char c : data) {
    crc ^= c;
    for (int bit = 0; bit < 8; ++bit) crc = crc >> 1 ^ (crc & 1 ? 0xedb88320 : 0);
  }
  return ~crc;
}

std::string png_of_size(std::uint32_t width, std::uint32_t height) {
  std::string file = file_of("png_rgb");
  put_32(file, 16, width);
  put_32(file, 20, height);
  put_32(file, 29, crc_of(std::string_view(file).substr(12, 17)));
  return file;
}

TEST_SUITE("io/image") {
  TEST_CASE("the extension names the format, in any case") {
    CHECK(format_for("a/b.png") == ImageFormat::png);
    CHECK(format_for("b.JPG") == ImageFormat::jpeg);
    CHECK(format_for("b.jpeg") == ImageFormat::jpeg);
    CHECK(format_for("b.c.WebP") == ImageFormat::webp);
    for (const auto* name : {"out.gif", "out", ".png", "png", "out.png."}) {
      const auto error = error_of([&] { format_for(name); });
      CHECK(error.kind() == ErrorKind::usage);
      CHECK(std::string(error.what()) ==
            std::string("expected a picture's name to end in .png, .jpg, .jpeg or .webp, got \"") +
                name + '"');
    }
  }

  TEST_CASE("pictures of every kind decode as Pillow decodes them") {
    for (const auto& picture : test::kPictures) {
      const std::string name = picture.name;
      CAPTURE(name);
      if (name == "webp_animated") continue;
      const Image image = decode_text(from_hex(picture.file));
      CHECK(image.width == test::kWidth);
      CHECK(image.height == test::kHeight);
      const std::string wanted = from_hex(picture.rgb);
      REQUIRE(image.rgb.size() == wanted.size());
      int worst = 0;
      for (std::size_t i = 0; i < wanted.size(); ++i)
        worst = std::max(worst, std::abs(image.rgb[i] - static_cast<unsigned char>(wanted[i])));
      // Versions of the lossy codecs may round differently.
      CHECK(worst <= (name.starts_with("jpeg") || name == "webp_lossy" ? 2 : 0));
    }
  }

  TEST_CASE("animations are refused as unsupported") {
    const auto animated = error_of([] { decode_text(file_of("webp_animated")); });
    CHECK(animated.kind() == ErrorKind::unsupported);
    CHECK(std::string(animated.what()) ==
          "expected a still picture, got an animated WebP: a picture");
  }

  TEST_CASE("PNG and lossless WebP bring every pixel back, odd sizes too") {
    for (const auto& [width, height] : {std::pair{64, 48}, {1, 1}, {3, 200}, {257, 1}}) {
      const Image image = sample(width, height);
      for (const int level : {0, 6, 9})
        CHECK(decode(encode(image, ImageFormat::png, {.png_level = level, .text = {}}), "x").rgb ==
              image.rgb);
      CHECK(
          decode(encode(image, ImageFormat::webp, {.webp_lossless = true, .text = {}}), "x").rgb ==
          image.rgb);
    }
  }

  TEST_CASE("JPEG and WebP come close and shrink with the quality") {
    const Image image = sample(128, 96);
    for (const auto format : {ImageFormat::jpeg, ImageFormat::webp}) {
      const auto fine = encode(image, format),
                 rough = encode(image, format, {.quality = 30, .text = {}});
      const Image again = decode(fine, "x");
      CHECK(again.width == 128);
      CHECK(again.height == 96);
      // WebP halves the colour of the edges.
      CHECK(mean_difference(again, image) < (format == ImageFormat::jpeg ? 1.5 : 6.0));
      CHECK(mean_difference(decode(rough, "x"), image) > mean_difference(again, image));
      CHECK(rough.size() < fine.size());
    }
  }

  TEST_CASE("a JPEG keeps its colour at full size") {
    Image image{16, 16, std::vector<std::uint8_t>(16 * 16 * 3, 255)};
    for (std::size_t i = 0; i < image.rgb.size(); i += 6) image.rgb[i + 1] = image.rgb[i + 2] = 0;
    CHECK(mean_difference(decode(encode(image, ImageFormat::jpeg), "x"), image) < 3.0);
  }

  TEST_CASE("a PNG says sRGB and carries texts, Latin and not") {
    const EncodeOptions options{.text = {{"Title", "a cat"}, {"Note", "猫"}, {"Empty", ""}}};
    const auto bytes = encode(sample(4, 4), ImageFormat::png, options);
    CHECK(contains(bytes, "sRGB"));
    CHECK(contains(bytes, std::string_view("tEXtTitle\0a cat", 15)));
    CHECK(contains(bytes, std::string_view("iTXtNote\0\0\0\0\0猫", 16)));
    CHECK(decode(bytes, "x").rgb == sample(4, 4).rgb);
  }

  TEST_CASE("texts and options that cannot be kept are refused") {
    const Image image = sample(4, 4);
    const auto kind = [&](ImageFormat format, const EncodeOptions& options) {
      return error_of([&] { encode(image, format, options); }).kind();
    };
    CHECK(kind(ImageFormat::jpeg, {.text = {{"a", "b"}}}) == ErrorKind::unsupported);
    for (const std::string keyword : {"", " a", "a ", "a  b", "a\nb"})
      CHECK(kind(ImageFormat::png, {.text = {{keyword, "b"}}}) == ErrorKind::usage);
    CHECK(kind(ImageFormat::png, {.text = {{std::string(80, 'k'), "b"}}}) == ErrorKind::usage);
    CHECK(kind(ImageFormat::png, {.text = {{"a", std::string("b\0c", 3)}}}) == ErrorKind::usage);
    CHECK(kind(ImageFormat::png, {.png_level = 10, .text = {}}) == ErrorKind::usage);
    CHECK(kind(ImageFormat::jpeg, {.quality = 0, .text = {}}) == ErrorKind::usage);
    CHECK(kind(ImageFormat::webp, {.quality = 101, .text = {}}) == ErrorKind::usage);
  }

  TEST_CASE("a picture has to be what it says, and not too large") {
    const auto message = [](const Image& image, ImageFormat format) {
      return std::string(error_of([&] { encode(image, format); }).what());
    };
    CHECK(message({2, 2, std::vector<std::uint8_t>(11)}, ImageFormat::png) ==
          "expected a picture of width x height x 3 values, got 2 x 2 with 11");
    CHECK(message({0, 0, {}}, ImageFormat::png) ==
          "expected a picture of width x height x 3 values, got 0 x 0 with 0");
    CHECK(message({-1, -1, std::vector<std::uint8_t>(3)}, ImageFormat::png) ==
          "expected a picture of width x height x 3 values, got -1 x -1 with 3");
    CHECK(message({16384, 1, std::vector<std::uint8_t>(16384 * 3)}, ImageFormat::webp) ==
          "expected a picture of at most 16383 pixels a side, got 16384 x 1");
    CHECK(message({1, 16385, std::vector<std::uint8_t>(16385 * 3)}, ImageFormat::jpeg) ==
          "expected a picture of at most 16384 pixels a side, got 1 x 16385");
  }

  TEST_CASE("a file is loaded by its content, not its name") {
    const TempDir dir;
    CHECK(load_image(dir.file("a.jpg", file_of("png_rgb"))).width == test::kWidth);
    CHECK(message_of(dir, [&] { load_image(dir.file("gif", "GIF89a....")); }) ==
          "expected a PNG, JPEG or WebP picture, got \"GIF89a..\" at its start: DIR/gif");
    CHECK(message_of(dir, [&] { load_image(dir.file("none.png", "")); }) ==
          "expected a PNG, JPEG or WebP picture, got an empty file: DIR/none.png");
    CHECK(error_of([&] { load_image(dir / "missing.png"); }).kind() == ErrorKind::not_found);
  }

  TEST_CASE("giant pictures are refused before memory is taken") {
    const auto error = error_of([] { decode_text(png_of_size(16385, 1)); });
    CHECK(error.kind() == ErrorKind::unsupported);
    CHECK(std::string(error.what()) ==
          "expected a picture of at most 16384 pixels a side and "
          "67108864 in all, got 16385 x 1: a picture");
    CHECK(error_of([] { decode_text(png_of_size(16384, 16384)); }).kind() ==
          ErrorKind::unsupported);
    CHECK(error_of([] { decode_text(png_of_size(0x7fffffff, 0x7fffffff)); }).kind() ==
          ErrorKind::unsupported);
    CHECK(error_of([] { decode_text(png_of_size(0, 5)); }).kind() == ErrorKind::format);
    CHECK(error_of([] { decode_text(png_of_size(0xffffffff, 5)); }).kind() == ErrorKind::format);
  }

  TEST_CASE("a picture cut short anywhere is an error, never a crash") {
    for (const auto& picture : test::kPictures) {
      CAPTURE(picture.name);
      const std::string file = from_hex(picture.file);
      for (std::size_t kept = 0; kept + 2 < file.size(); ++kept) {
        CAPTURE(kept);
        const auto kind = error_of([&] { decode_text(file.substr(0, kept)); }).kind();
        CHECK((kind == ErrorKind::format || kind == ErrorKind::unsupported));
      }
    }
  }

  TEST_CASE("a picture with any byte damaged decodes or fails in order") {
    for (const auto& picture : test::kPictures) {
      CAPTURE(picture.name);
      const std::string file = from_hex(picture.file);
      for (std::size_t i = 0; i < file.size(); ++i) {
        for (const int mask : {0x01, 0x80, 0xff}) {
          std::string damaged = file;
          damaged[i] = static_cast<char>(damaged[i] ^ mask);
          try {
            const Image image = decode_text(damaged);
            CHECK(image.rgb.size() == std::size_t{3} * static_cast<std::size_t>(image.width) *
                                          static_cast<std::size_t>(image.height));
          } catch (const Error& error) {
            CHECK(error.kind() != ErrorKind::internal);
          }
        }
      }
    }
  }

  TEST_CASE("the codec's complaint is passed on") {
    std::string file = file_of("png_rgb");
    file[16] = static_cast<char>(file[16] ^ 1);
    CHECK(std::string(error_of([&] { decode_text(file); }).what()) ==
          "broken PNG picture (IHDR: CRC error): a picture");
    const std::string jpeg = file_of("jpeg_rgb");
    CHECK(std::string(error_of([&] { decode_text(jpeg.substr(0, jpeg.size() - 8)); }).what()) ==
          "broken JPEG picture (Premature end of JPEG file): a picture");
    const std::string webp = file_of("webp_lossless");
    CHECK(std::string(error_of([&] { decode_text(webp.substr(0, webp.size() - 4)); }).what()) ==
          "broken WebP picture (the file ends too early): a picture");
  }
}

}  // namespace
}  // namespace klein::io
