#include "klein/models/flux2/vae_tiles.h"

#include <algorithm>
#include <utility>
#include <vector>

#include <fmt/format.h>

#include "klein/core/error.h"

namespace klein::flux2 {
namespace {

/// Positions begin..end along one axis: 1 for rows, 2 for columns.
mx::array part(const mx::array& a, int axis, int begin, int end) {
  mx::Shape from(4, 0), to = a.shape();
  from[static_cast<std::size_t>(axis)] = begin;
  to[static_cast<std::size_t>(axis)] = std::min(end, a.shape(axis));
  return mx::slice(a, from, to);
}

/// `b` with its first rows or columns faded in over the last ones of `a`.
///
/// Dtype    that of b; each product rounds to it, and so does the sum
mx::array blend(const mx::array& a, const mx::array& b, int axis, int extent) {
  extent = std::min({a.shape(axis), b.shape(axis), extent});
  if (extent == 0) return b;
  std::vector<float> old_weights, new_weights;
  for (int i = 0; i < extent; ++i) {
    const double weight = static_cast<double>(i) / extent;
    old_weights.push_back(static_cast<float>(1.0 - weight));
    new_weights.push_back(static_cast<float>(weight));
  }
  mx::Shape along(4, 1);
  along[static_cast<std::size_t>(axis)] = extent;
  const auto weighted = [&](const mx::array& tile, const std::vector<float>& weights) {
    const mx::array factor(weights.begin(), along, mx::float32);
    return mx::astype(mx::astype(tile, mx::float32) * factor, b.dtype());
  };
  const int end = b.shape(axis);
  const auto mixed = weighted(part(a, axis, a.shape(axis) - extent, a.shape(axis)), old_weights) +
                     weighted(part(b, axis, 0, extent), new_weights);
  return extent == end ? mixed : mx::concatenate({mixed, part(b, axis, extent, end)}, axis);
}

/// How one direction cuts and joins.
struct Cut {
  int side;    ///< Of a tile before, in pixels of what is cut.
  int step;    ///< Between two tiles.
  int extent;  ///< What is blended afterwards.
  int keep;    ///< What stays of a tile afterwards.
};

Cut make_cut(int side, int result_side, double overlap) {
  Cut cut{.side = side,
          .step = static_cast<int>(side * (1.0 - overlap)),
          .extent = static_cast<int>(result_side * overlap),
          .keep = 0};
  cut.keep = result_side - cut.extent;
  if (cut.step < 1 || cut.keep < 1)
    throw Error(ErrorKind::shape,
                fmt::format("expected tiles that are larger than their overlap, got sides of {} "
                            "and {} with an overlap of {}",
                            side, result_side, overlap));
  return cut;
}

/// Tiles are blended with those above, then with those on the left, which are blended already.
template <typename Convert>
mx::array in_tiles(const mx::array& x, const Cut& cut, const Convert& convert) {
  std::vector<mx::array> above, joined_rows;
  for (int y = 0; y < x.shape(1); y += cut.step) {
    std::vector<mx::array> row, kept;
    for (int left = 0; left < x.shape(2); left += cut.step) {
      const auto strip = part(x, 1, y, y + cut.side);
      auto tile = convert(part(strip, 2, left, left + cut.side));
      if (!above.empty()) tile = blend(above[row.size()], tile, 1, cut.extent);
      if (!row.empty()) tile = blend(row.back(), tile, 2, cut.extent);
      mx::eval(tile);
      kept.push_back(part(part(tile, 1, 0, cut.keep), 2, 0, cut.keep));
      row.push_back(std::move(tile));
    }
    joined_rows.push_back(mx::concatenate(std::move(kept), 2));
    mx::eval(joined_rows.back());
    above = std::move(row);
  }
  auto whole = mx::concatenate(std::move(joined_rows), 1);
  mx::eval(whole);
  return whole;
}

}  // namespace

TileSizes TileSizes::of(const VaeConfig& config) {
  return {.sample = config.sample_size, .latent = config.sample_size / config.scale()};
}

mx::array decode_in_tiles(const Vae& vae, const mx::array& latents, const TileSizes& tiles) {
  const auto cut = make_cut(tiles.latent, tiles.sample, tiles.overlap);
  const auto decode = [&](const mx::array& tile) { return vae.decode(tile); };
  if (std::max(latents.shape(1), latents.shape(2)) > tiles.latent)
    return in_tiles(latents, cut, decode);
  auto whole = decode(latents);
  mx::eval(whole);
  return whole;
}

mx::array encode_in_tiles(const Vae& vae, const mx::array& pixels, const TileSizes& tiles) {
  const auto cut = make_cut(tiles.sample, tiles.latent, tiles.overlap);
  const auto encode = [&](const mx::array& tile) { return vae.encode(tile); };
  if (std::max(pixels.shape(1), pixels.shape(2)) > tiles.sample)
    return in_tiles(pixels, cut, encode);
  auto whole = encode(pixels);
  mx::eval(whole);
  return whole;
}

}  // namespace klein::flux2
