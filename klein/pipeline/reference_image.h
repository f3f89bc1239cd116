#pragma once

#include <string>

#include "klein/io/picture.h"

namespace klein {

inline constexpr int kMaxWorkingPixels = 1024 * 1024;  ///< Larger pictures are scaled down to it.
inline constexpr int kPixelsPerToken = 16;             ///< Sides are multiples of it.

/// The width and height of a picture once its area is at most kMaxWorkingPixels, proportions kept
/// but for rounding down.
struct Size {
  int width = 0;
  int height = 0;
};
Size capped_size(int width, int height);

/// A picture as the model looks at it while it paints another: scaled down with Lanczos in its own
/// mode when it has more than kMaxWorkingPixels, then cut at the centre to sides that are multiples
/// of 16, then without alpha. `name` is what messages call it.
///
/// Errors   Error(usage) when a side is below 64 pixels or one is more than 8 times the other
/// Thread   any
/// Source   diffusers, Flux2ImageProcessor.check_image_input, _resize_if_exceeds_area,
///          _resize_and_crop
io::Image prepare_reference(const io::Picture& picture, const std::string& name);

}  // namespace klein
