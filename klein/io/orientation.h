#pragma once

#include <cstddef>
#include <span>

#include "klein/io/picture.h"

namespace klein::io {

/// The orientation, 1 to 8, that an EXIF block names; 1, upright, where it names none or is broken.
/// The block may begin with "Exif\0\0" or with its TIFF header.
int orientation_in(std::span<const std::byte> exif);

/// The picture turned and mirrored so that it stands upright.
///
/// Source   TIFF 6.0, Orientation; PIL.ImageOps.exif_transpose
Picture turn_upright(Picture picture, int orientation);

}  // namespace klein::io
