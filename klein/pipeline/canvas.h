#pragma once

#include <optional>
#include <string>

#include "klein/io/picture.h"

namespace klein {

/// A picture, and where it is to be painted anew: 255 all of it, 0 nothing.
struct MaskedPicture {
  io::Picture picture;
  io::GreyImage mask;  ///< As large as the picture.
};

/// A part of a picture in pixels; right and bottom are the first that are outside.
struct Box {
  int left = 0;
  int top = 0;
  int right = 0;
  int bottom = 0;

  int width() const { return right - left; }
  int height() const { return bottom - top; }
};

/// What to do with the pixels around the part that was painted anew.
enum class Preserve {
  none,   ///< The whole picture comes as it was generated, at the working size.
  exact,  ///< The picture keeps its size, and each pixel whose mask is 0 keeps its value.
  blend,  ///< As exact; inside the mask's edge the new pixels fade in, so that no seam is seen.
};

struct CanvasOptions {
  /// Paint only what lies around the mask, and this many pixels (of the picture) around that, at
  /// the full working size; unset: the whole picture.
  std::optional<int> padding_mask_crop = {};
  bool soft = false;  ///< Grey values of the mask count; else 128 and more is white, less is black.
  int grow = 0;       ///< Paint this many pixels (of the working size) around the mask too, unseen.
};

/// What an inpainting run works on, and what it takes to put its result back.
struct Canvas {
  io::Image picture;   ///< At the working size, whose sides are multiples of 16.
  io::GreyImage mask;  ///< At the working size; 0 and 255 unless soft.
  io::Image original;
  io::GreyImage original_mask;
  std::optional<Box> crop;  ///< The part of the original that was enlarged to the working size.
  Box content;              ///< Where the working picture holds the original, or `crop` of it.
};

/// The bounding box of all that is not black; where all is, its right is left of its left.
Box bounds_of(const io::GreyImage& mask);

/// The picture scaled so that it covers the size, cut at the centre, without alpha: what img2img
/// starts from.
///
/// Errors   Error(shape) when the picture is not what it says or a side is below 1
/// Thread   any
/// Source   PIL.ImageOps.fit with Lanczos
io::Image cover(const io::Picture& picture, int width, int height);

/// The picture and its mask as the model gets them.
///
/// The working size is that of the picture scaled down to kMaxWorkingPixels, its sides rounded down
/// to multiples of 16; the picture is squeezed into it. With a crop, the mask's bounding box with
/// its padding is widened to the proportions of the working size, and what the picture's edge
/// leaves missing is filled with its outermost pixels. In diffusers a picture above
/// kMaxWorkingPixels is cropped at a place of the unscaled mask; here both are taken from the
/// unscaled picture.
///
/// Errors   Error(shape) when the sizes of picture and mask differ; Error(usage) when the mask is
///          black, the working size would be below 16 pixels, or the padding or `grow` is negative
/// Thread   any
/// Source   diffusers, Flux2KleinInpaintPipeline.__call__; VaeImageProcessor.get_crop_region,
///          _resize_and_fill, binarize
Canvas make_canvas(MaskedPicture original, const CanvasOptions& options = {});

/// The result of a run, put back: see Preserve. With a crop it goes into the original in every
/// case, through the mask (where diffusers pastes it unscaled, which shifts it).
///
/// Shapes   generated as large as canvas.picture -> that, or as large as the original
/// Errors   Error(shape) for another size
/// Thread   any
io::Image finish(const Canvas& canvas, const io::Image& generated, Preserve preserve);

/// A picture whose transparent parts are to be painted: the mask is 255 - alpha, and the colours
/// below it come from the nearest opaque pixels. `name` is what messages call it.
///
/// Errors   Error(usage) when it has no transparent pixels, or no others
/// Thread   any
MaskedPicture mask_transparent(const io::Picture& picture, const std::string& name);

}  // namespace klein
