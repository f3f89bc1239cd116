#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "klein/io/image.h"
#include "klein/io/picture.h"

namespace klein::io::detail {

/// One codec per file; encode() and decode() have checked their arguments.
std::vector<std::byte> encode_png(const Image& image, const EncodeOptions& options);
std::vector<std::byte> encode_jpeg(const Image& image, int quality);
std::vector<std::byte> encode_webp(const Image& image, int quality, bool lossless);

/// A picture as it lies in the file, and the EXIF block that says how to turn it, or none.
struct Decoded {
  Picture picture;
  std::vector<std::byte> exif;
};

Decoded decode_png(std::span<const std::byte> bytes, const std::string& name);
Decoded decode_jpeg(std::span<const std::byte> bytes, const std::string& name);
Decoded decode_webp(std::span<const std::byte> bytes, const std::string& name);

/// A picture of that size with its pixels allocated. Error(unsupported) when it is too large,
/// Error(format) when a side is 0.
Picture make_picture(std::uint64_t width, std::uint64_t height, PictureMode mode,
                     const std::string& name);

/// Throws Error(memory).
[[noreturn]] void fail_memory();

/// Throws Error(format) "broken PNG picture (what the codec said): name".
[[noreturn]] void fail_decoding(const char* format, const std::string& complaint,
                                const std::string& name);

}  // namespace klein::io::detail
