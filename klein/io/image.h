#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace klein::io {

inline constexpr int kMaxImageSide = 16384;
inline constexpr std::int64_t kMaxImagePixels = std::int64_t{64} << 20;

/// A picture of 8 bits a channel; `rgb` holds height * width * 3 values, row by row from the top.
struct Image {
  int width = 0;
  int height = 0;
  std::vector<std::uint8_t> rgb;

  friend bool operator==(const Image&, const Image&) = default;
};

enum class ImageFormat { png, jpeg, webp };

struct EncodeOptions {
  int png_level = 6;           ///< zlib's, 0 to 9: small files take longer.
  int quality = 95;            ///< JPEG and lossy WebP, 1 to 100. JPEG keeps full colour (4:4:4).
  bool webp_lossless = false;  ///< Every pixel comes back; `quality` then has no say.
  /// Text chunks of a PNG in this order: keyword (1 to 79 bytes of Latin-1), UTF-8 text.
  std::vector<std::pair<std::string, std::string>> text;
};

/// The format that the name's extension asks for: .png, .jpg, .jpeg or .webp in any case.
/// Error(usage) for every other name.
ImageFormat format_for(const std::filesystem::path& path);

/// A file's bytes for the picture; a PNG says that it is sRGB.
///
/// Errors   Error(shape) when `rgb` is not width * height * 3 long; Error(unsupported) beyond
///          kMaxImageSide (WebP: 16383) or when text is meant for anything but a PNG; Error(usage)
///          for an option out of range
/// Thread   any
std::vector<std::byte> encode(const Image& image, ImageFormat format,
                              const EncodeOptions& options = {});

/// The format that a file's bytes begin like, where it is one of the three.
std::optional<ImageFormat> format_of(std::span<const std::byte> bytes);

/// The picture in a PNG, JPEG or WebP file's bytes, without alpha: to_rgb(decode_picture()), which
/// io/picture.h describes.
Image decode(std::span<const std::byte> bytes, const std::string& name);

/// The picture in a file, without alpha: to_rgb(load_picture()).
Image load_image(const std::filesystem::path& path);

}  // namespace klein::io
