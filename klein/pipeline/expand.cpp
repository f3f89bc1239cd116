#include "klein/pipeline/expand.h"

#include <algorithm>
#include <cmath>
#include <utility>

#include <fmt/format.h>

#include "klein/core/error.h"
#include "klein/io/resize.h"

namespace klein {

namespace {

void check(const io::Picture& picture, const Margins& margins, const std::string& name) {
  const auto& [left, top, right, bottom] = margins;
  if (std::min({left, top, right, bottom}) < 0 || std::max({left, top, right, bottom}) == 0)
    throw Error(ErrorKind::usage,
                fmt::format("expected margins of at least 0 pixels, one of them above, got {}, {}, "
                            "{}, {}",
                            left, top, right, bottom));
  const std::int64_t width = std::int64_t{picture.width} + left + right;
  const std::int64_t height = std::int64_t{picture.height} + top + bottom;
  if (width > io::kMaxImageSide || height > io::kMaxImageSide ||
      width * height > io::kMaxImagePixels)
    throw Error(ErrorKind::usage,
                fmt::format("expected an expanded picture of at most {} pixels a side and {} in "
                            "all, got {} x {}: {}",
                            io::kMaxImageSide, io::kMaxImagePixels, width, height, name),
                "Give smaller margins, or scale the picture down first");
}

/// Where place x of an endless row of mirrored pictures is in the picture.
int mirrored(int x, int size) {
  const int place = ((x % (2 * size)) + 2 * size) % (2 * size);
  return place < size ? place : 2 * size - 1 - place;
}

/// How far x lies outside of low to high.
int outside(int x, int low, int high) {
  return std::max({low - x, x - (high - 1), 0});
}

io::Image mirrored_around(const io::Image& picture, const Margins& margins, int width, int height) {
  io::Image out{width, height, {}};
  out.rgb.reserve(3 * static_cast<std::size_t>(width) * static_cast<std::size_t>(height));
  for (int y = 0; y < height; ++y) {
    const auto row = static_cast<std::size_t>(mirrored(y - margins.top, picture.height)) *
                     static_cast<std::size_t>(picture.width);
    for (int x = 0; x < width; ++x) {
      const auto column = static_cast<std::size_t>(mirrored(x - margins.left, picture.width));
      const auto* pixel = picture.rgb.data() + 3 * (row + column);
      out.rgb.insert(out.rgb.end(), pixel, pixel + 3);
    }
  }
  return out;
}

/// The picture as through frosted glass.
io::Image softened(const io::Image& picture) {
  constexpr int kGrain = 32;
  const auto small = resize(picture, std::max(1, picture.width / kGrain),
                            std::max(1, picture.height / kGrain), io::Filter::bilinear);
  return resize(small, picture.width, picture.height, io::Filter::bilinear);
}

}  // namespace

MaskedPicture expand(const io::Picture& picture, const Margins& margins, const std::string& name) {
  expect_whole(picture);
  check(picture, margins, name);
  const int width = picture.width + margins.left + margins.right;
  const int height = picture.height + margins.top + margins.bottom;
  io::Image canvas = mirrored_around(to_rgb(picture), margins, width, height);
  const io::Image soft = softened(canvas);
  io::GreyImage mask{width, height, {}};
  mask.grey.reserve(canvas.rgb.size() / 3);
  // From the picture's edge on the mirror image fades out over an eighth of the picture.
  const float reach =
      std::max(16.0f, static_cast<float>(std::min(picture.width, picture.height)) / 8);
  for (int y = 0; y < height; ++y)
    for (int x = 0; x < width; ++x) {
      const auto across =
          static_cast<float>(outside(x, margins.left, margins.left + picture.width));
      const auto down = static_cast<float>(outside(y, margins.top, margins.top + picture.height));
      const std::size_t at = 3 * mask.grey.size();
      const float share = std::min(std::hypot(across, down) / reach, 1.0f);
      mask.grey.push_back(share > 0 ? 255 : 0);
      for (std::size_t c = 0; share > 0 && c < 3; ++c) {
        const auto sharp = static_cast<float>(canvas.rgb[at + c]);
        canvas.rgb[at + c] = static_cast<std::uint8_t>(
            std::lround(sharp + share * (static_cast<float>(soft.rgb[at + c]) - sharp)));
      }
    }
  return {picture_of(std::move(canvas)), std::move(mask)};
}

Canvas make_expanded_canvas(const io::Picture& picture, const Margins& margins,
                            const std::string& name) {
  constexpr int kOverlap = 16;  // one token, so that none which touches the new area stays
  return make_canvas(expand(picture, margins, name),
                     {.padding_mask_crop = {}, .soft = false, .grow = kOverlap});
}

}  // namespace klein
