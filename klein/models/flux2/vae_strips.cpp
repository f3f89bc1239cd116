#include "klein/models/flux2/vae_strips.h"

#include <algorithm>
#include <utility>
#include <vector>

#include <fmt/format.h>

#include "klein/core/error.h"
#include "klein/ops/conv.h"
#include "klein/ops/norm.h"
#include "klein/tensor/check.h"

namespace klein::flux2 {
namespace {

mx::array rows_of(const mx::array& map, int begin, int end) {
  if (begin == 0 && end == map.shape(1)) return map;
  return mx::slice(map, {0, begin, 0, 0}, {map.shape(0), end, map.shape(2), map.shape(3)});
}

/// A map of activations as strips of rows, each in memory of its own.
class StripedMap {
 public:
  int rows() const { return rows_; }

  /// Evaluates the strip: only then does the memory of what it was made from come free.
  void append(mx::array strip) {
    mx::eval(strip);
    strips_.push_back({rows_, strip});
    rows_ += strip.shape(1);
  }

  /// Rows begin..end, none of which has been released.
  mx::array read(int begin, int end) const {
    std::vector<mx::array> parts;
    for (const auto& [first, strip] : strips_) {
      const int from = std::max(begin, first), to = std::min(end, first + strip.shape(1));
      if (from < to) parts.push_back(rows_of(strip, from - first, to - first));
    }
    return parts.size() == 1 ? parts.front() : mx::concatenate(std::move(parts), 1);
  }

  /// Lets go of all strips that hold no row from `row` on.
  void release_before(int row) {
    std::erase_if(strips_, [&](const Strip& s) { return s.first + s.strip.shape(1) <= row; });
  }

  /// Mean and variance of every group over all rows, from those of the strips.
  mx::array moments(int groups) const {
    std::vector<mx::array> means, variances;
    std::vector<float> shares;
    for (const auto& [first, strip] : strips_) {
      auto own = ops::group_moments(strip, groups);
      mx::eval(own);
      const auto [mean, variance] = chunk<2>(own);
      means.push_back(mean), variances.push_back(variance);
      shares.push_back(static_cast<float>(strip.shape(1)) / static_cast<float>(rows_));
    }
    const mx::array share(shares.begin(), {static_cast<int>(shares.size()), 1, 1, 1});
    const auto of_strips = mx::stack(std::move(means));  // [strips, B, groups, 1]
    const auto mean = mx::sum(share * of_strips, 0);
    const auto spread = mx::stack(std::move(variances)) + mx::square(of_strips - mean);
    return mx::concatenate({mean, mx::sum(share * spread, 0)}, 2);
  }

 private:
  struct Strip {
    int first;
    mx::array strip;
  };
  std::vector<Strip> strips_;
  int rows_ = 0;
};

/// The strips that `make(begin, end)` returns for all rows.
template <typename Make>
StripedMap in_strips(int rows, int strip_rows, const Make& make) {
  StripedMap out;
  for (int begin = 0; begin < rows; begin += strip_rows)
    out.append(make(begin, std::min(begin + strip_rows, rows)));
  return out;
}

/// Rows begin..end of a 3x3 convolution of `before(map)`; zeros surround the map, not the strip.
template <typename Before>
mx::array conv_rows(const nn::Conv2d& conv, const StripedMap& map, int begin, int end,
                    const Before& before) {
  const int top = begin == 0 ? 1 : 0, bottom = end == map.rows() ? 1 : 0;
  return ops::conv2d(before(map.read(begin - 1 + top, end + 1 - bottom)), conv.weight, conv.bias,
                     /*stride=*/1, {.top = top, .bottom = bottom, .left = 1, .right = 1});
}

/// Rows begin..end of conv(silu(norm(map))).
mx::array normed_conv_rows(const nn::GroupNorm& norm, const mx::array& moments,
                           const nn::Conv2d& conv, const StripedMap& map, int begin, int end) {
  return conv_rows(conv, map, begin, end, [&](const mx::array& rows) {
    return norm.with_moments(rows, moments, /*silu=*/true);
  });
}

StripedMap run(const ResnetBlock& block, StripedMap x, int strip_rows) {
  const int rows = x.rows();
  const auto before = x.moments(block.norm1.groups);
  StripedMap shortcut;
  auto h = in_strips(rows, strip_rows, [&](int begin, int end) {
    auto strip = normed_conv_rows(block.norm1, before, block.conv1, x, begin, end);
    if (block.conv_shortcut) {
      shortcut.append((*block.conv_shortcut)(x.read(begin, end)));
      x.release_before(end - 1);
    }
    return strip;
  });
  if (!block.conv_shortcut) shortcut = std::move(x);

  const auto between = h.moments(block.norm2.groups);
  return in_strips(rows, strip_rows, [&](int begin, int end) {
    auto strip = shortcut.read(begin, end) +
                 normed_conv_rows(block.norm2, between, block.conv2, h, begin, end);
    shortcut.release_before(end);
    h.release_before(end - 1);
    return strip;
  });
}

StripedMap run(const nn::Upsample& upsampler, StripedMap x, int strip_rows) {
  const int rows = 2 * x.rows();
  return in_strips(rows, strip_rows, [&](int begin, int end) {
    const int top = begin == 0 ? 1 : 0, bottom = end == rows ? 1 : 0;
    const int first = begin - 1 + top, last = end + 1 - bottom, source = first / 2;
    const auto doubled = ops::upsample_nearest_2x(x.read(source, (last + 1) / 2));
    x.release_before((end - 1) / 2);
    return ops::conv2d(rows_of(doubled, first - 2 * source, last - 2 * source),
                       upsampler.conv.weight, upsampler.conv.bias, /*stride=*/1,
                       {.top = top, .bottom = bottom, .left = 1, .right = 1});
  });
}

StripedMap run(const nn::Downsample& downsampler, StripedMap x, int strip_rows) {
  const int rows = x.rows() / 2;
  return in_strips(rows, strip_rows, [&](int begin, int end) {
    const int last = std::min(2 * end + 1, x.rows());
    const auto input = x.read(2 * begin, last);
    x.release_before(2 * end);
    return ops::conv2d(input, downsampler.conv.weight, downsampler.conv.bias, /*stride=*/2,
                       {.top = 0, .bottom = 2 * end + 1 - last, .left = 0, .right = 1});
  });
}

void expect_strip(int strip_rows) {
  if (strip_rows < 1)
    throw Error(ErrorKind::shape,
                fmt::format("expected strips of at least 1 row, got {}", strip_rows));
}

}  // namespace

mx::array decode_in_strips(const Vae& vae, const mx::array& latents, int strip_rows) {
  expect_last_axis(latents, vae.config.latent_channels, "latents to decode");
  expect_strip(strip_rows);
  const auto& decoder = vae.decoder;
  const auto z = vae.post_quant_conv ? (*vae.post_quant_conv)(latents) : latents;
  StripedMap map;
  map.append(decoder.mid_block(decoder.conv_in(z)));
  for (const auto& block : decoder.up_blocks) {
    for (const auto& resnet : block.resnets) map = run(resnet, std::move(map), strip_rows);
    for (const auto& sampler : block.upsamplers) map = run(sampler, std::move(map), strip_rows);
  }
  const auto& norm = decoder.conv_norm_out;
  const auto moments = map.moments(norm.groups);
  const auto pixels = in_strips(map.rows(), strip_rows, [&](int begin, int end) {
    auto strip = normed_conv_rows(norm, moments, decoder.conv_out, map, begin, end);
    map.release_before(end - 1);
    return strip;
  });
  return pixels.read(0, pixels.rows());
}

mx::array encode_in_strips(const Vae& vae, const mx::array& pixels, int strip_rows) {
  vae.expect_pixels(pixels);
  expect_strip(strip_rows);
  const auto& encoder = vae.encoder;
  StripedMap whole;
  whole.append(pixels);
  auto map = in_strips(whole.rows(), strip_rows, [&](int begin, int end) {
    return conv_rows(encoder.conv_in, whole, begin, end,
                     [](const mx::array& rows) { return rows; });
  });
  for (const auto& block : encoder.down_blocks) {
    for (const auto& resnet : block.resnets) map = run(resnet, std::move(map), strip_rows);
    for (const auto& sampler : block.downsamplers) map = run(sampler, std::move(map), strip_rows);
  }
  const auto h = encoder.mid_block(map.read(0, map.rows()));
  auto mean = vae.mean_of(encoder.conv_out(encoder.conv_norm_out(h, /*silu=*/true)));
  mx::eval(mean);
  return mean;
}

}  // namespace klein::flux2
