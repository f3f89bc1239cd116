#include "klein/io/image.h"

#include <algorithm>
#include <cctype>

#include <fmt/format.h>

#include "klein/core/error.h"
#include "klein/io/image_codecs.h"
#include "klein/io/picture.h"
#include "klein/io/text.h"

namespace klein::io {

namespace {

constexpr int kMaxWebpSide = 16383;

void expect_range(const char* what, int value, int low, int high) {
  if (value < low || value > high)
    throw Error(ErrorKind::usage,
                fmt::format("expected {} from {} to {}, got {}", what, low, high, value));
}

void check(const Image& image, ImageFormat format, const EncodeOptions& options) {
  const int limit = format == ImageFormat::webp ? kMaxWebpSide : kMaxImageSide;
  expect_whole(image);
  if (image.width > limit || image.height > limit)
    throw Error(ErrorKind::unsupported,
                fmt::format("expected a picture of at most {} pixels a side, got {} x {}", limit,
                            image.width, image.height));
  if (!options.text.empty() && format != ImageFormat::png)
    throw Error(ErrorKind::unsupported,
                "expected a PNG to write text chunks into, got another "
                "picture format");
  expect_range("a PNG compression level", options.png_level, 0, 9);
  expect_range("a picture quality", options.quality, 1, 100);
}

}  // namespace

ImageFormat format_for(const std::filesystem::path& path) {
  std::string extension = path.extension().string();
  std::transform(extension.begin(), extension.end(), extension.begin(),
                 [](unsigned char c) { return static_cast<char>(std::tolower(c)); });
  if (extension == ".png") return ImageFormat::png;
  if (extension == ".jpg" || extension == ".jpeg") return ImageFormat::jpeg;
  if (extension == ".webp") return ImageFormat::webp;
  throw Error(ErrorKind::usage,
              fmt::format("expected a picture's name to end in .png, .jpg, .jpeg or .webp, got {}",
                          in_quotes(path.filename().string())));
}

std::vector<std::byte> encode(const Image& image, ImageFormat format,
                              const EncodeOptions& options) {
  check(image, format, options);
  switch (format) {
    case ImageFormat::png:
      return detail::encode_png(image, options);
    case ImageFormat::jpeg:
      return detail::encode_jpeg(image, options.quality);
    case ImageFormat::webp:
      return detail::encode_webp(image, options.quality, options.webp_lossless);
  }
  throw Error(ErrorKind::internal, "unknown picture format");
}

std::optional<ImageFormat> format_of(std::span<const std::byte> bytes) {
  const std::string_view text(reinterpret_cast<const char*>(bytes.data()), bytes.size());
  if (text.starts_with("\x89PNG\r\n\x1a\n")) return ImageFormat::png;
  if (text.starts_with("\xff\xd8\xff")) return ImageFormat::jpeg;
  if (text.starts_with("RIFF") && text.substr(0, 12).ends_with("WEBP")) return ImageFormat::webp;
  return std::nullopt;
}

Image decode(std::span<const std::byte> bytes, const std::string& name) {
  return to_rgb(decode_picture(bytes, name));
}

Image load_image(const std::filesystem::path& path) {
  return to_rgb(load_picture(path));
}

}  // namespace klein::io
