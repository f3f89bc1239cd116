#pragma once

#include <span>
#include <string>
#include <string_view>
#include <vector>

#include <doctest/doctest.h>

#include "klein/hub/digest.h"
#include "klein/io/picture.h"

namespace klein::test {

/// The picture that reference/picture_fixtures.py calls pattern().
inline io::Picture pattern(io::PictureMode mode, int width, int height) {
  io::Picture picture{width, height, mode, false, {}};
  for (int y = 0; y < height; ++y)
    for (int x = 0; x < width; ++x)
      for (int c = 0; c < io::channels(mode); ++c)
        picture.pixels.push_back(
            static_cast<std::uint8_t>((x * 37 + y * 91 + c * 53 + x * y / 7 + 11) % 256));
  return picture;
}

inline io::GreyImage filled_mask(int width, int height, std::uint8_t value) {
  return {width, height,
          std::vector<std::uint8_t>(
              static_cast<std::size_t>(width) * static_cast<std::size_t>(height), value)};
}

/// Sets the pixels from (left, top) up to (right, bottom).
inline void paint(io::GreyImage& mask, int left, int top, int right, int bottom, int value) {
  for (int y = top; y < bottom; ++y)
    for (int x = left; x < right; ++x)
      mask.grey[static_cast<std::size_t>(y) * static_cast<std::size_t>(mask.width) +
                static_cast<std::size_t>(x)] = static_cast<std::uint8_t>(value);
}

inline std::string sha256(const std::vector<std::uint8_t>& values) {
  hub::Digest digest(std::string(64, '0'), values.size());
  digest.add(std::as_bytes(std::span(values)));
  return digest.finish();
}

inline io::PictureMode mode_named(std::string_view name) {
  if (name == "L") return io::PictureMode::grey;
  if (name == "LA") return io::PictureMode::grey_alpha;
  REQUIRE((name == "RGB" || name == "RGBA"));
  return name == "RGB" ? io::PictureMode::rgb : io::PictureMode::rgba;
}

}  // namespace klein::test
