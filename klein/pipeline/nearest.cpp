#include "klein/pipeline/nearest.h"

#include <algorithm>
#include <cstddef>
#include <cstdlib>

namespace klein {

namespace {

constexpr Step kUnknown{INT16_MAX, INT16_MAX};

bool is_known(const Step& step) {
  return step.dx != kUnknown.dx;
}

/// Takes the way over the neighbour at (dx, dy) where that is shorter.
void try_neighbour(Step& own, const Step& neighbour, int dx, int dy) {
  if (!is_known(neighbour)) return;
  const Step other{static_cast<std::int16_t>(neighbour.dx + dx),
                   static_cast<std::int16_t>(neighbour.dy + dy)};
  if (!is_known(own) || other.squared() < own.squared()) own = other;
}

/// Carries ways from row `from` to row `to`, which lies `dy` away, then along it both ways.
void sweep(Step* to, const Step* from, int dy, int width) {
  for (int x = 0; from != nullptr && x < width; ++x)
    for (int dx = std::max(-1, -x); dx <= 1 && x + dx < width; ++dx)
      try_neighbour(to[x], from[x + dx], dx, dy);
  for (int x = 1; x < width; ++x) try_neighbour(to[x], to[x - 1], -1, 0);
  for (int x = width - 2; x >= 0; --x) try_neighbour(to[x], to[x + 1], 1, 0);
}

}  // namespace

std::vector<Step> ways_to_nearest(const std::vector<std::uint8_t>& marked, int width, int height) {
  std::vector<Step> ways(marked.size());
  for (std::size_t i = 0; i < marked.size(); ++i) ways[i] = marked[i] != 0 ? Step{} : kUnknown;
  const auto row = [&](int y) {
    return ways.data() + static_cast<std::size_t>(y) * static_cast<std::size_t>(width);
  };
  for (int y = 0; y < height; ++y) sweep(row(y), y > 0 ? row(y - 1) : nullptr, -1, width);
  for (int y = height - 2; y >= 0; --y) sweep(row(y), row(y + 1), 1, width);
  if (!ways.empty() && !is_known(ways.front())) std::fill(ways.begin(), ways.end(), Step{});
  return ways;
}

}  // namespace klein
