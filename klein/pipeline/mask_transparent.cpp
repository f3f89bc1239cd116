#include <algorithm>
#include <utility>

#include <fmt/format.h>

#include "klein/core/error.h"
#include "klein/pipeline/canvas.h"
#include "klein/pipeline/nearest.h"

namespace klein {

namespace {

void expect_transparent_parts(const std::optional<io::GreyImage>& alpha, const std::string& name) {
  const char* came = nullptr;
  if (!alpha) {
    came = "without an alpha channel";
  } else {
    const auto [low, high] = std::minmax_element(alpha->grey.begin(), alpha->grey.end());
    if (*low == 255) came = "that is opaque";
    if (*high == 0) came = "that is transparent all over";
  }
  if (came != nullptr)
    throw Error(ErrorKind::usage,
                fmt::format("expected a picture with transparent parts to paint, got one {}: {}",
                            came, name),
                "Give a mask");
}

}  // namespace

MaskedPicture mask_transparent(const io::Picture& picture, const std::string& name) {
  const auto alpha = alpha_of(picture);
  expect_transparent_parts(alpha, name);
  const auto& opacity = alpha->grey;
  const int most = *std::max_element(opacity.begin(), opacity.end());
  std::vector<std::uint8_t> marked(opacity.size());
  std::transform(opacity.begin(), opacity.end(), marked.begin(),
                 [&](int value) { return static_cast<std::uint8_t>(value == most); });

  io::Image rgb = to_rgb(picture);
  io::GreyImage mask{picture.width, picture.height, opacity};
  const auto ways = ways_to_nearest(marked, picture.width, picture.height);
  for (std::size_t i = 0; i < opacity.size(); ++i) {
    mask.grey[i] = static_cast<std::uint8_t>(255 - opacity[i]);
    // The nearest opaque pixel is its own nearest: nothing changes its colour before it is read.
    const auto nearest = static_cast<std::size_t>(static_cast<std::int64_t>(i) + ways[i].dx +
                                                  std::int64_t{ways[i].dy} * picture.width);
    for (std::size_t c = 0; c < 3; ++c) {
      auto& value = rgb.rgb[3 * i + c];
      value = static_cast<std::uint8_t>(
          (value * opacity[i] + rgb.rgb[3 * nearest + c] * (255 - opacity[i]) + 127) / 255);
    }
  }
  return {picture_of(std::move(rgb)), std::move(mask)};
}

}  // namespace klein
