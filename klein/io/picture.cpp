#include "klein/io/picture.h"

#include <algorithm>
#include <string_view>
#include <utility>

#include <fmt/format.h>

#include "klein/core/error.h"
#include "klein/io/file.h"
#include "klein/io/image_codecs.h"
#include "klein/io/orientation.h"
#include "klein/io/text.h"

namespace klein::io {

namespace {

void expect_length(int width, int height, int channels, std::size_t length) {
  if (width >= 1 && height >= 1 &&
      length == static_cast<std::size_t>(width) * static_cast<std::size_t>(height) *
                    static_cast<std::size_t>(channels))
    return;
  throw Error(ErrorKind::shape,
              fmt::format("expected a picture of width x height x {} values, got {} x {} with {}",
                          channels, width, height, length));
}

/// Calls act(pixel) for each pixel's first channel.
template <typename Act>
void for_each_pixel(const Picture& picture, const Act& act) {
  const auto step = static_cast<std::size_t>(channels(picture.mode));
  const auto* end = picture.pixels.data() + picture.pixels.size();
  for (const auto* pixel = picture.pixels.data(); pixel != end; pixel += step) act(pixel);
}

bool is_grey(PictureMode mode) {
  return mode == PictureMode::grey || mode == PictureMode::grey_alpha;
}

}  // namespace

int channels(PictureMode mode) {
  return static_cast<int>(mode) + 1;
}

bool has_alpha(PictureMode mode) {
  return mode == PictureMode::grey_alpha || mode == PictureMode::rgba;
}

Picture decode_picture(std::span<const std::byte> bytes, const std::string& name) {
  const auto upright = [&](detail::Decoded decoded) {
    return turn_upright(std::move(decoded.picture), orientation_in(decoded.exif));
  };
  const auto format = format_of(bytes);
  if (format == ImageFormat::png) return upright(detail::decode_png(bytes, name));
  if (format == ImageFormat::jpeg) return upright(detail::decode_jpeg(bytes, name));
  if (format == ImageFormat::webp) return upright(detail::decode_webp(bytes, name));
  const std::string_view text(reinterpret_cast<const char*>(bytes.data()), bytes.size());
  const std::string start = text.empty() ? "an empty file" : in_quotes(text.substr(0, 8));
  throw Error(ErrorKind::format, fmt::format("expected a PNG, JPEG or WebP picture, got {}{}: {}",
                                             start, text.size() > 8 ? " at its start" : "", name));
}

Picture load_picture(const std::filesystem::path& path) {
  const MappedFile file = MappedFile::open(path);
  file.advise(Advice::sequential);
  return decode_picture(file.bytes(), path.string());
}

Picture picture_of(Image image) {
  return {image.width, image.height, PictureMode::rgb, false, std::move(image.rgb)};
}

void expect_whole(const Picture& picture) {
  expect_length(picture.width, picture.height, channels(picture.mode), picture.pixels.size());
}

void expect_whole(const Image& image) {
  expect_length(image.width, image.height, 3, image.rgb.size());
}

void expect_whole(const GreyImage& image) {
  expect_length(image.width, image.height, 1, image.grey.size());
}

Image to_rgb(const Picture& picture) {
  expect_whole(picture);
  Image image{picture.width, picture.height, {}};
  if (picture.mode == PictureMode::rgb) {
    image.rgb = picture.pixels;
    return image;
  }
  image.rgb.resize(picture.pixels.size() / static_cast<std::size_t>(channels(picture.mode)) * 3);
  auto* target = image.rgb.data();
  const bool grey = is_grey(picture.mode);
  for_each_pixel(picture, [&](const std::uint8_t* pixel) {
    *target++ = pixel[0];
    *target++ = pixel[grey ? 0 : 1];
    *target++ = pixel[grey ? 0 : 2];
  });
  return image;
}

GreyImage to_grey(const Picture& picture) {
  expect_whole(picture);
  GreyImage image{picture.width, picture.height, {}};
  image.grey.resize(picture.pixels.size() / static_cast<std::size_t>(channels(picture.mode)));
  auto* target = image.grey.data();
  const bool grey = is_grey(picture.mode);
  for_each_pixel(picture, [&](const std::uint8_t* pixel) {
    // 0.299, 0.587 and 0.114 in 1/65536.
    *target++ = grey ? pixel[0]
                     : static_cast<std::uint8_t>(
                           (pixel[0] * 19595 + pixel[1] * 38470 + pixel[2] * 7471 + 0x8000) >> 16);
  });
  return image;
}

std::optional<GreyImage> alpha_of(const Picture& picture) {
  expect_whole(picture);
  if (!has_alpha(picture.mode)) return std::nullopt;
  GreyImage image{picture.width, picture.height, {}};
  const int last = channels(picture.mode) - 1;
  image.grey.reserve(picture.pixels.size() / static_cast<std::size_t>(last + 1));
  for_each_pixel(picture, [&](const std::uint8_t* pixel) { image.grey.push_back(pixel[last]); });
  return image;
}

namespace detail {

Picture make_picture(std::uint64_t width, std::uint64_t height, PictureMode mode,
                     const std::string& name) {
  if (width == 0 || height == 0)
    throw Error(ErrorKind::format, fmt::format("expected a picture with pixels, got {} x {}: {}",
                                               width, height, name));
  if (width > kMaxImageSide || height > kMaxImageSide ||
      width * height > static_cast<std::uint64_t>(kMaxImagePixels))
    throw Error(ErrorKind::unsupported,
                fmt::format("expected a picture of at most {} pixels a side and {} in all, "
                            "got {} x {}: {}",
                            kMaxImageSide, kMaxImagePixels, width, height, name));
  Picture picture{static_cast<int>(width), static_cast<int>(height), mode, false, {}};
  picture.pixels.resize(width * height * static_cast<std::uint64_t>(channels(mode)));
  return picture;
}

void fail_memory() {
  throw Error(ErrorKind::memory, "no memory left for a picture");
}

void fail_decoding(const char* format, const std::string& complaint, const std::string& name) {
  throw Error(ErrorKind::format,
              fmt::format("broken {} picture ({}): {}", format, printable(complaint, 160), name));
}

}  // namespace detail

}  // namespace klein::io
