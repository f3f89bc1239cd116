#pragma once

#include <filesystem>
#include <vector>

#include "klein/io/image.h"
#include "klein/tensor/mlx.h"

namespace klein::flux2 {

/// Lies beside the config.json of an autoencoder with other latents than the published one's.
inline constexpr const char* kLatentRgbFile = "latent_rgb.json";

/// Latents to colours without the autoencoder: one linear map, good enough to watch a picture come.
struct LatentRgb {
  mx::array weight;  ///< [latent_channels, 3] float32
  mx::array bias;    ///< [3] float32

  /// That of the published FLUX.2 autoencoder.
  static LatentRgb published();

  /// From a file: {"weight": [[r, g, b], ...], "bias": [r, g, b]}.
  ///
  /// Errors   Error(format) when it is none
  static LatentRgb read(const std::filesystem::path& path);

  /// Shapes   latents [B, h, w, latent_channels], as the decoder takes them -> B pictures of w x h
  std::vector<io::Image> operator()(const mx::array& latents) const;
};

}  // namespace klein::flux2
