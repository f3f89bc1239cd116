#pragma once

#include <cstdint>
#include <vector>

namespace klein {

/// How far away the nearest marked pixel lies: 0, 0 for a marked one.
struct Step {
  std::int16_t dx = 0;
  std::int16_t dy = 0;

  int squared() const { return dx * dx + dy * dy; }
};

/// For each pixel the way to the nearest marked one, by sweeping over the rows up and down; now and
/// then it is the second nearest, by less than a pixel. Where nothing is marked every way is 0, 0.
///
/// Shapes   marked [height, width], any value but 0 marks -> [height, width]
/// Thread   any
/// Source   Danielsson, "Euclidean distance mapping" (1980)
std::vector<Step> ways_to_nearest(const std::vector<std::uint8_t>& marked, int width, int height);

}  // namespace klein
