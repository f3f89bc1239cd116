#include "klein/models/flux2/vae_tiling.h"

#include <algorithm>
#include <vector>

#include "klein/core/error.h"
#include "klein/models/flux2/vae_strips.h"
#include "klein/models/flux2/vae_tiles.h"

namespace klein::flux2 {
namespace {

constexpr int kMostStripRows = 64;
constexpr int kLeastStripRows = 8;  // lower ones cost twice the time and save nothing

// What was measured (bench/results/vae.md) is the large maps, a few percent more, and
// a part that hardly grows: packed weights, rows of input, what the allocator keeps.
constexpr double kSlack = 1.03;
constexpr double kFixedBytes = 200e6;
constexpr double kStripsAtATime = 4.0;
constexpr double kTileAfterTile = 1.25;  // what the allocator keeps between two tiles

/// The residual blocks of one resolution: the first goes from `in` to `out` channels.
struct Level {
  double rows, columns, in, out;
};

std::vector<Level> decoder_levels(const VaeConfig& config, int rows, int columns) {
  const auto& widths = config.decoder_block_out_channels;
  std::vector<Level> levels;
  double factor = 1.0, in = widths.back();
  for (auto out = widths.rbegin(); out != widths.rend(); ++out, factor *= 2.0) {
    levels.push_back({rows * factor, columns * factor, in, static_cast<double>(*out)});
    in = *out;
  }
  return levels;
}

std::vector<Level> encoder_levels(const VaeConfig& config, int rows, int columns) {
  std::vector<Level> levels;
  double factor = 1.0, in = config.block_out_channels.front();
  for (const int out : config.block_out_channels) {
    levels.push_back({rows * factor, columns * factor, in, static_cast<double>(out)});
    in = out;
    factor /= 2.0;
  }
  return levels;
}

/// As a whole: the input of a resnet, a norm and the convolution of it; and the shortcut where that
/// is a convolution too.
double whole_bytes(const std::vector<Level>& levels, double number_bytes) {
  double most = 0.0;
  for (const auto& [rows, columns, in, out] : levels)
    most = std::max(
        most, rows * columns * (in == out ? 3.0 * in : std::max(2.0 * in + out, in + 3.0 * out)));
  return kSlack * most * number_bytes + kFixedBytes;
}

/// In strips: the input of a resnet, which the shortcut and the first convolution replace.
double strips_bytes(const std::vector<Level>& levels, double number_bytes, int strip_rows) {
  double maps = 0.0, strips = 0.0;
  for (const auto& [rows, columns, in, out] : levels) {
    maps = std::max(maps, rows * columns * std::max(in, 2.0 * out));
    strips = std::max(strips, std::min<double>(strip_rows, rows) * columns * std::max(in, out));
  }
  return (kSlack * maps + kStripsAtATime * strips) * number_bytes + kFixedBytes;
}

/// One direction: its levels for a picture, and the side of diffusers' tiles.
template <typename Levels>
VaePlan make_plan(VaeTiling wish, int rows, int columns, int tile, double number_bytes,
                  std::uint64_t budget_bytes, double result_numbers, const Levels& levels_of) {
  const auto levels = levels_of(rows, columns);
  const auto budget = static_cast<double>(budget_bytes);
  VaePlan plan{.tiling = wish};
  if (wish == VaeTiling::automatic)
    plan.tiling = whole_bytes(levels, number_bytes) <= budget ? VaeTiling::off : VaeTiling::exact;

  double bytes = 0.0;
  if (plan.tiling == VaeTiling::exact) {
    plan.strip_rows = kMostStripRows;
    while (plan.strip_rows > kLeastStripRows &&
           strips_bytes(levels, number_bytes, plan.strip_rows) > budget)
      plan.strip_rows /= 2;
    bytes = strips_bytes(levels, number_bytes, plan.strip_rows);
  } else if (plan.tiling == VaeTiling::diffusers && std::max(rows, columns) > tile) {
    // Tiles overlap, so all of them together are up to twice the picture, and it is joined twice.
    bytes = kTileAfterTile * whole_bytes(levels_of(std::min(rows, tile), std::min(columns, tile)),
                                         number_bytes) +
            4.0 * result_numbers * number_bytes;
  } else {
    bytes = whole_bytes(levels, number_bytes);
  }
  plan.estimated_bytes = static_cast<std::uint64_t>(bytes);
  return plan;
}

double pixels(int rows, int columns) {
  return static_cast<double>(rows) * columns;
}

}  // namespace

VaePlan plan_decode(const VaeConfig& config, VaeTiling wish, int rows, int columns, mx::Dtype dtype,
                    std::uint64_t budget_bytes) {
  const double result =
      pixels(rows, columns) * config.scale() * config.scale() * config.out_channels;
  return make_plan(wish, rows, columns, TileSizes::of(config).latent, mx::size_of(dtype),
                   budget_bytes, result,
                   [&](int h, int w) { return decoder_levels(config, h, w); });
}

VaePlan plan_encode(const VaeConfig& config, VaeTiling wish, int rows, int columns, mx::Dtype dtype,
                    std::uint64_t budget_bytes) {
  const double result =
      pixels(rows, columns) / config.scale() / config.scale() * config.latent_channels;
  return make_plan(wish, rows, columns, TileSizes::of(config).sample, mx::size_of(dtype),
                   budget_bytes, result,
                   [&](int h, int w) { return encoder_levels(config, h, w); });
}

mx::array decode(const Vae& vae, const mx::array& latents, const VaePlan& plan) {
  switch (plan.tiling) {
    case VaeTiling::off:
      return vae.decode(latents);
    case VaeTiling::exact:
      return decode_in_strips(vae, latents, plan.strip_rows);
    case VaeTiling::diffusers:
      return decode_in_tiles(vae, latents, TileSizes::of(vae.config));
    case VaeTiling::automatic:
      break;
  }
  throw Error(ErrorKind::internal, "expected a plan that says how to decode, got automatic");
}

mx::array encode(const Vae& vae, const mx::array& pixels, const VaePlan& plan) {
  switch (plan.tiling) {
    case VaeTiling::off:
      return vae.encode(pixels);
    case VaeTiling::exact:
      return encode_in_strips(vae, pixels, plan.strip_rows);
    case VaeTiling::diffusers:
      return encode_in_tiles(vae, pixels, TileSizes::of(vae.config));
    case VaeTiling::automatic:
      break;
  }
  throw Error(ErrorKind::internal, "expected a plan that says how to encode, got automatic");
}

}  // namespace klein::flux2
