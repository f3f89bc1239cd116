#include "klein/pipeline/reference_image.h"

#include <algorithm>
#include <cmath>

#include <fmt/format.h>

#include "klein/core/error.h"
#include "klein/io/resize.h"

namespace klein {

namespace {

constexpr int kMinSide = 64;
constexpr int kMaxAspect = 8;

void check(const io::Picture& picture, const std::string& name) {
  const auto [low, high] = std::minmax(picture.width, picture.height);
  if (low < kMinSide)
    throw Error(ErrorKind::usage,
                fmt::format("expected a reference picture of at least {0} x {0} pixels, got {1} x "
                            "{2}: {3}",
                            kMinSide, picture.width, picture.height, name),
                "Give a larger picture");
  if (high > static_cast<std::int64_t>(kMaxAspect) * low)
    throw Error(
        ErrorKind::usage,
        fmt::format("expected a reference picture whose longer side is at most {} times the other, "
                    "got {} x {}: {}",
                    kMaxAspect, picture.width, picture.height, name),
        "Cut out the part that matters");
}

}  // namespace

Size capped_size(int width, int height) {
  const double area = static_cast<double>(width) * height;
  if (area <= kMaxWorkingPixels) return {width, height};
  const double scale = std::sqrt(kMaxWorkingPixels / area);
  return {static_cast<int>(width * scale), static_cast<int>(height * scale)};
}

io::Image prepare_reference(const io::Picture& picture, const std::string& name) {
  expect_whole(picture);
  check(picture, name);
  const auto [width, height] = capped_size(picture.width, picture.height);
  const io::Picture scaled = resize(picture, width, height);
  const int cut_width = width - width % kPixelsPerToken,
            cut_height = height - height % kPixelsPerToken;
  return to_rgb(
      crop(scaled, (width - cut_width) / 2, (height - cut_height) / 2, cut_width, cut_height));
}

}  // namespace klein
