#pragma once

#include <string>

#include "klein/pipeline/canvas.h"

namespace klein {

/// Pixels to add at each side.
struct Margins {
  int left = 0;
  int top = 0;
  int right = 0;
  int bottom = 0;
};

/// The picture on a larger canvas, whose new area is to be painted: filled with the mirrored
/// picture, the softer the farther away.
///
/// Errors   Error(usage) when a margin is negative or all are 0, when the new sides are above
///          io::kMaxImageSide or io::kMaxImagePixels in all
/// Thread   any
MaskedPicture expand(const io::Picture& picture, const Margins& margins, const std::string& name);

/// What outpainting works on: expand() as a canvas whose mask reaches over the picture's edge, so
/// that every token that touches the new area is painted. finish() with Preserve::blend brings the
/// picture back with its pixels unchanged.
Canvas make_expanded_canvas(const io::Picture& picture, const Margins& margins,
                            const std::string& name);

}  // namespace klein
