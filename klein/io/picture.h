#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "klein/io/image.h"

namespace klein::io {

/// What a pixel holds, in this order: L; L and alpha; R, G, B; R, G, B and alpha.
enum class PictureMode { grey, grey_alpha, rgb, rgba };

/// A picture as its file has it, 8 bits a channel, row by row from the top.
struct Picture {
  int width = 0;
  int height = 0;
  PictureMode mode = PictureMode::rgb;
  /// Whether the file had a palette or one bit a pixel: such a picture is scaled without mixing
  /// neighbours, as Pillow scales its modes P and 1.
  bool indexed = false;
  std::vector<std::uint8_t> pixels;  ///< height * width * channels(mode)
};

/// A picture of one channel: a mask (white is what happens), or an alpha channel.
struct GreyImage {
  int width = 0;
  int height = 0;
  std::vector<std::uint8_t> grey;
};

/// 1 to 4.
int channels(PictureMode mode);
bool has_alpha(PictureMode mode);

/// The picture in a PNG, JPEG or WebP file's bytes, upright; `name` is what messages call it.
///
/// As Pillow opens it after ImageOps.exif_transpose, but that palettes and single bits are
/// expanded, 16-bit grey keeps its high byte (Pillow saturates it) and CMYK becomes RGB at once.
/// The orientation is that of EXIF (JPEG APP1, PNG eXIf, WebP EXIF); broken EXIF counts as upright.
/// A colour that a PNG without palette calls transparent stays opaque; of an animated PNG the still
/// picture counts; colour profiles are not applied.
///
/// Errors   Error(format) when the bytes are none of the three, broken or cut short;
///          Error(unsupported) for an animated WebP, a JPEG of 2 channels, a side over
///          kMaxImageSide and more than kMaxImagePixels (before memory is taken for them)
/// Thread   any
Picture decode_picture(std::span<const std::byte> bytes, const std::string& name);

/// The picture in a file. Errors as decode_picture() and MappedFile.
Picture load_picture(const std::filesystem::path& path);

/// The same picture with no alpha and no palette.
Picture picture_of(Image image);

/// Throws Error(shape) unless both sides are at least 1 and `pixels` is as long as they say.
void expect_whole(const Picture& picture);
void expect_whole(const Image& image);
void expect_whole(const GreyImage& image);

/// Colour without alpha, as Pillow's convert("RGB").
Image to_rgb(const Picture& picture);

/// Brightness (ITU-R 601-2) without alpha, as Pillow's convert("L").
GreyImage to_grey(const Picture& picture);

/// The alpha channel, where there is one.
std::optional<GreyImage> alpha_of(const Picture& picture);

}  // namespace klein::io
