#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "klein/io/image.h"

namespace klein::io::detail {

/// One codec per file; encode() and decode() have checked their arguments.
std::vector<std::byte> encode_png(const Image& image, const EncodeOptions& options);
std::vector<std::byte> encode_jpeg(const Image& image, int quality);
std::vector<std::byte> encode_webp(const Image& image, int quality, bool lossless);
Image decode_png(std::span<const std::byte> bytes, const std::string& name);
Image decode_jpeg(std::span<const std::byte> bytes, const std::string& name);
Image decode_webp(std::span<const std::byte> bytes, const std::string& name);

/// An image of that size with its pixels allocated. Error(unsupported) when it is too large,
/// Error(format) when a side is 0.
Image make_image(std::uint64_t width, std::uint64_t height, const std::string& name);

/// Throws Error(memory).
[[noreturn]] void fail_memory();

/// Throws Error(format) "broken PNG picture (what the codec said): name".
[[noreturn]] void fail_decoding(const char* format, const std::string& complaint,
                                const std::string& name);

}  // namespace klein::io::detail
