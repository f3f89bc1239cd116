#include "klein/io/resize.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <numbers>
#include <utility>
#include <vector>

#include <fmt/format.h>

#include "klein/core/clones.h"
#include "klein/core/error.h"

namespace klein::io {

namespace {

// Weights have 22 bits behind the point: 8 of the pixel and 2 for sums beyond 0 to 1 make 32.
constexpr int kBits = 22;
constexpr int kHalf = 1 << (kBits - 1);
constexpr int kBlock = 16;  // rows that the horizontal pass takes at once

/// Rows of `width` pixels of `channels` values.
struct Plane {
  int width = 0;
  int height = 0;
  int channels = 0;
  std::vector<std::uint8_t> values;

  std::size_t row_size() const {
    return static_cast<std::size_t>(width) * static_cast<std::size_t>(channels);
  }
};

/// Which values make value x: weights[x * stride + i] of value first[x] + i, for i < count[x].
struct Taps {
  std::vector<int> first;
  std::vector<int> count;
  std::vector<std::int32_t> weights;
  std::size_t stride = 0;
};

double sinc(double x) {
  if (x == 0.0) return 1.0;
  x *= std::numbers::pi;
  return std::sin(x) / x;
}

double weight_of(Filter filter, double x) {
  if (filter == Filter::lanczos) return -3.0 <= x && x < 3.0 ? sinc(x) * sinc(x / 3) : 0.0;
  x = std::abs(x);
  if (filter == Filter::bilinear) return x < 1.0 ? 1.0 - x : 0.0;
  constexpr double a = -0.5;
  if (x < 1.0) return ((a + 2.0) * x - (a + 3.0)) * x * x + 1;
  return x < 2.0 ? (((x - 5) * x + 8) * x - 4) * a : 0.0;
}

double support_of(Filter filter) {
  if (filter == Filter::lanczos) return 3.0;
  return filter == Filter::bicubic ? 2.0 : 1.0;
}

std::int32_t to_fixed(double weight) {
  const double scaled = weight * (1 << kBits);
  return static_cast<std::int32_t>(scaled < 0 ? scaled - 0.5 : scaled + 0.5);
}

/// How `size` values come from those between `from` and `to` of `available`.
Taps make_taps(int available, float from, float to, int size, Filter filter) {
  const double scale = static_cast<double>(to - from) / size;
  const double stretch = std::max(scale, 1.0);
  const double support = support_of(filter) * stretch;
  Taps taps;
  taps.stride = static_cast<std::size_t>(std::ceil(support)) * 2 + 1;
  taps.weights.resize(taps.stride * static_cast<std::size_t>(size));
  std::vector<double> exact(taps.stride);
  for (int x = 0; x < size; ++x) {
    const double centre = from + (x + 0.5) * scale;
    // As Pillow rounds, which is not std::lround below zero.
    const double begin = centre - support + 0.5, end = centre + support + 0.5;
    const int first = std::max(static_cast<int>(begin), 0);
    const int count = std::min(static_cast<int>(end), available) - first;
    double sum = 0;
    for (int i = 0; i < count; ++i) {
      const double weight = weight_of(filter, (i + first - centre + 0.5) * (1.0 / stretch));
      exact[static_cast<std::size_t>(i)] = weight;
      sum += weight;
    }
    auto* fixed = taps.weights.data() + taps.stride * static_cast<std::size_t>(x);
    for (int i = 0; i < count; ++i) {
      const double weight = exact[static_cast<std::size_t>(i)];
      fixed[i] = to_fixed(sum != 0.0 ? weight / sum : weight);
    }
    taps.first.push_back(first);
    taps.count.push_back(count);
  }
  return taps;
}

KLEIN_INLINE std::uint8_t to_byte(std::int32_t sum) {
  return static_cast<std::uint8_t>(std::clamp(sum >> kBits, 0, 255));
}

/// kBlock rows at once, which lie side by side: value i of row r at [i * kBlock + r].
KLEIN_CLONES void scale_block(const std::uint8_t* source, std::uint8_t* target, const Taps& taps,
                              int channels) {
  const auto step = static_cast<std::size_t>(channels) * kBlock;
  for (std::size_t x = 0; x < taps.first.size(); ++x) {
    const auto* weights = taps.weights.data() + x * taps.stride;
    const auto* start = source + static_cast<std::size_t>(taps.first[x]) * step;
    for (int c = 0; c < channels; ++c, start += kBlock, target += kBlock) {
      std::int32_t sums[kBlock];
      for (int r = 0; r < kBlock; ++r) sums[r] = kHalf;
      const auto* values = start;
      for (int i = 0; i < taps.count[x]; ++i, values += step)
        for (int r = 0; r < kBlock; ++r) sums[r] += weights[i] * values[r];
      for (int r = 0; r < kBlock; ++r) target[r] = to_byte(sums[r]);
    }
  }
}

/// The rows from `first` on, scaled to as many pixels as there are taps.
Plane scale_rows(const Plane& source, int first, int height, const Taps& taps) {
  Plane out{static_cast<int>(taps.first.size()), height, source.channels, {}};
  const std::size_t from = source.row_size(), to = out.row_size();
  out.values.resize(to * static_cast<std::size_t>(height));
  std::vector<std::uint8_t> block(from * kBlock), scaled(to * kBlock);
  for (int y = 0; y < height; y += kBlock) {
    const auto rows = static_cast<std::size_t>(std::min(kBlock, height - y));
    const auto* in = source.values.data() + from * static_cast<std::size_t>(first + y);
    for (std::size_t i = 0; i < from; ++i)
      for (std::size_t r = 0; r < rows; ++r) block[i * kBlock + r] = in[r * from + i];
    scale_block(block.data(), scaled.data(), taps, source.channels);
    auto* target = out.values.data() + to * static_cast<std::size_t>(y);
    for (std::size_t r = 0; r < rows; ++r)
      for (std::size_t i = 0; i < to; ++i) target[r * to + i] = scaled[i * kBlock + r];
  }
  return out;
}

/// One row from `count` rows of `size` values.
KLEIN_CLONES void mix_rows(const std::uint8_t* rows, std::size_t size, const std::int32_t* weights,
                           int count, std::uint8_t* target) {
  constexpr std::size_t kAtOnce = 256;
  std::int32_t sums[kAtOnce];
  for (std::size_t start = 0; start < size; start += kAtOnce) {
    const std::size_t part = std::min(kAtOnce, size - start);
    for (std::size_t i = 0; i < part; ++i) sums[i] = kHalf;
    const auto* row = rows + start;
    for (int tap = 0; tap < count; ++tap, row += size)
      for (std::size_t i = 0; i < part; ++i) sums[i] += weights[tap] * row[i];
    for (std::size_t i = 0; i < part; ++i) target[start + i] = to_byte(sums[i]);
  }
}

/// Mixes rows; `first` is the row of the picture that `source` begins with.
Plane scale_columns(const Plane& source, int first, const Taps& taps) {
  Plane out{source.width, static_cast<int>(taps.first.size()), source.channels, {}};
  const std::size_t size = source.row_size();
  out.values.resize(size * taps.first.size());
  for (std::size_t y = 0; y < taps.first.size(); ++y)
    mix_rows(source.values.data() + size * static_cast<std::size_t>(taps.first[y] - first), size,
             taps.weights.data() + y * taps.stride, taps.count[y], out.values.data() + size * y);
  return out;
}

/// Both passes round to bytes, so their order shows. As Pillow 13 has it, rows are mixed first
/// where that takes away more than twice as much.
Plane filtered(const Plane& source, int width, int height, Filter filter, const Region& part) {
  const bool across =
      width != source.width || part.left != 0 || part.right != static_cast<float>(source.width);
  const bool down =
      height != source.height || part.top != 0 || part.bottom != static_cast<float>(source.height);
  const Taps rows = make_taps(source.height, part.top, part.bottom, height, filter);
  if (!across) return scale_columns(source, 0, rows);
  const Taps columns = make_taps(source.width, part.left, part.right, width, filter);
  if (!down) return scale_rows(source, 0, height, columns);
  if (height < source.height && source.height - height > 2 * (source.width - width))
    return scale_rows(scale_columns(source, 0, rows), 0, height, columns);
  const int first = rows.first.front(), end = rows.first.back() + rows.count.back();
  return scale_columns(scale_rows(source, first, end - first, columns), first, rows);
}

/// Which of `available` pixels stands at each place. Sums are rounded at each step, as Pillow's.
std::vector<std::size_t> nearest_places(float from, float to, int size, int available) {
  const double step = static_cast<double>(to - from) / size;
  double place = from + step * 0.5;
  std::vector<std::size_t> places;
  for (int i = 0; i < size; ++i, place += step)
    places.push_back(
        static_cast<std::size_t>(std::clamp(static_cast<int>(place), 0, available - 1)));
  return places;
}

Plane picked(const Plane& source, int width, int height, const Region& part) {
  Plane out{width, height, source.channels, {}};
  const auto columns = nearest_places(part.left, part.right, width, source.width);
  const auto rows = nearest_places(part.top, part.bottom, height, source.height);
  const auto size = static_cast<std::size_t>(source.channels);
  out.values.resize(out.row_size() * static_cast<std::size_t>(height));
  auto* target = out.values.data();
  for (const std::size_t y : rows)
    for (const std::size_t x : columns) {
      std::memcpy(target, source.values.data() + y * source.row_size() + x * size, size);
      target += size;
    }
  return out;
}

/// Colours times alpha, which is the last channel, in units of 1/255.
void multiply_by_alpha(Plane& plane) {
  const auto colours = static_cast<std::size_t>(plane.channels) - 1;
  for (std::size_t at = 0; at < plane.values.size(); at += colours + 1)
    for (std::size_t c = 0; c < colours; ++c) {
      const int product = plane.values[at + c] * plane.values[at + colours] + 128;
      plane.values[at + c] = static_cast<std::uint8_t>(((product >> 8) + product) >> 8);
    }
}

void divide_by_alpha(Plane& plane) {
  const auto colours = static_cast<std::size_t>(plane.channels) - 1;
  for (std::size_t at = 0; at < plane.values.size(); at += colours + 1) {
    const int alpha = plane.values[at + colours];
    if (alpha == 0 || alpha == 255) continue;
    for (std::size_t c = 0; c < colours; ++c)
      plane.values[at + c] =
          static_cast<std::uint8_t>(std::min(255 * plane.values[at + c] / alpha, 255));
  }
}

Plane resized(Plane plane, int width, int height, Filter filter, const std::optional<Region>& part,
              bool alpha) {
  const Region whole{0, 0, static_cast<float>(plane.width), static_cast<float>(plane.height)};
  const Region region = part.value_or(whole);
  if (width < 1 || height < 1)
    throw Error(ErrorKind::shape,
                fmt::format("expected a size of at least 1 x 1, got {} x {}", width, height));
  if (!(region.left >= 0 && region.top >= 0 && region.left <= region.right &&
        region.top <= region.bottom && region.right <= whole.right &&
        region.bottom <= whole.bottom))
    throw Error(
        ErrorKind::shape,
        fmt::format("expected a part of a picture of {} x {}, got {}, {} to {}, {}", plane.width,
                    plane.height, region.left, region.top, region.right, region.bottom));
  const bool same = width == plane.width && height == plane.height && region.left == 0 &&
                    region.top == 0 && region.right == whole.right && region.bottom == whole.bottom;
  if (same) return plane;
  if (filter == Filter::nearest) return picked(plane, width, height, region);
  if (alpha) multiply_by_alpha(plane);
  plane = filtered(plane, width, height, filter, region);
  if (alpha) divide_by_alpha(plane);
  return plane;
}

Plane cut(const Plane& source, int left, int top, int width, int height) {
  if (left < 0 || top < 0 || width < 1 || height < 1 || width > source.width - left ||
      height > source.height - top)
    throw Error(ErrorKind::shape,
                fmt::format("expected a part of a picture of {} x {}, got {} x {} from {}, {} on",
                            source.width, source.height, width, height, left, top));
  Plane out{width, height, source.channels, {}};
  const std::size_t size = out.row_size();
  out.values.resize(size * static_cast<std::size_t>(height));
  const auto* start = source.values.data() + static_cast<std::size_t>(top) * source.row_size() +
                      static_cast<std::size_t>(left) * static_cast<std::size_t>(source.channels);
  for (std::size_t y = 0; y < static_cast<std::size_t>(height); ++y)
    std::memcpy(out.values.data() + y * size, start + y * source.row_size(), size);
  return out;
}

Plane plane_of(const Picture& picture) {
  expect_whole(picture);
  return {picture.width, picture.height, channels(picture.mode), picture.pixels};
}

Plane plane_of(const Image& image) {
  expect_whole(image);
  return {image.width, image.height, 3, image.rgb};
}

Plane plane_of(const GreyImage& image) {
  expect_whole(image);
  return {image.width, image.height, 1, image.grey};
}

Picture like(const Picture& picture, Plane plane) {
  return {plane.width, plane.height, picture.mode, picture.indexed, std::move(plane.values)};
}

template <typename AnyImage>
AnyImage to_image(Plane plane) {
  return {plane.width, plane.height, std::move(plane.values)};
}

}  // namespace

Picture resize(const Picture& picture, int width, int height, Filter filter,
               const std::optional<Region>& part) {
  return like(picture,
              resized(plane_of(picture), width, height, picture.indexed ? Filter::nearest : filter,
                      part, has_alpha(picture.mode)));
}

Image resize(const Image& image, int width, int height, Filter filter,
             const std::optional<Region>& part) {
  return to_image<Image>(resized(plane_of(image), width, height, filter, part, false));
}

GreyImage resize(const GreyImage& image, int width, int height, Filter filter,
                 const std::optional<Region>& part) {
  return to_image<GreyImage>(resized(plane_of(image), width, height, filter, part, false));
}

Picture crop(const Picture& picture, int left, int top, int width, int height) {
  return like(picture, cut(plane_of(picture), left, top, width, height));
}

Image crop(const Image& image, int left, int top, int width, int height) {
  return to_image<Image>(cut(plane_of(image), left, top, width, height));
}

GreyImage crop(const GreyImage& image, int left, int top, int width, int height) {
  return to_image<GreyImage>(cut(plane_of(image), left, top, width, height));
}

}  // namespace klein::io
