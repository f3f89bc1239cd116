#pragma once

#include <optional>

#include "klein/io/picture.h"

namespace klein::io {

enum class Filter { nearest, bilinear, bicubic, lanczos };

/// A part of a picture, in pixels from its left upper corner; edges may lie between pixels.
struct Region {
  float left = 0;
  float top = 0;
  float right = 0;
  float bottom = 0;
};

/// The picture, or a part of it, at another size: PIL.Image.resize to the bit.
///
/// Pictures with alpha are scaled with their colours multiplied by it; indexed ones keep their
/// pixels as they are (nearest), whatever the filter.
///
/// Units    width, height in pixels; a region of no height repeats the row at its place
/// Errors   Error(shape) when the picture is not what it says, a side is below 1 or the region lies
///          outside of the picture
/// Thread   any
/// Source   Pillow, Resample.c and Geometry.c: ImagingResample, ImagingScaleAffine
Picture resize(const Picture& picture, int width, int height, Filter filter = Filter::lanczos,
               const std::optional<Region>& part = {});
Image resize(const Image& image, int width, int height, Filter filter = Filter::lanczos,
             const std::optional<Region>& part = {});
GreyImage resize(const GreyImage& image, int width, int height, Filter filter = Filter::lanczos,
                 const std::optional<Region>& part = {});

/// The pixels from (left, top) on. Error(shape) when they are not all inside.
Picture crop(const Picture& picture, int left, int top, int width, int height);
Image crop(const Image& image, int left, int top, int width, int height);
GreyImage crop(const GreyImage& image, int left, int top, int width, int height);

}  // namespace klein::io
