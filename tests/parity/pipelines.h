#pragma once

#include <cmath>
#include <filesystem>
#include <string>
#include <utility>

#include <doctest/doctest.h>

#include "klein/models/flux2/pipeline.h"

/// Whole pipelines on the tiny checkpoints, and how near their pictures have to come.
namespace klein::test {

/// Whole pipelines collect the roundings of some hundred layers.
inline constexpr float kPipelineFloat32 = 1e-4f;

inline std::filesystem::path model(const std::string& name) {
  return std::filesystem::path(KLEIN_TEST_FIXTURES) / "models" / name;
}

inline flux2::Pipeline open_pipeline(const std::string& name, mx::Dtype dtype) {
  return {flux2::Checkpoint::read({.model = model(name)}), {.dtype = dtype}};
}

/// Mean and largest difference of 8-bit pictures.
inline std::pair<double, int> picture_difference(const io::Image& image, const mx::array& want,
                                                 int index) {
  auto levels = mx::contiguous(mx::take(want, index, 0));
  mx::eval(levels);
  REQUIRE(levels.shape() == mx::Shape{image.height, image.width, 3});
  const auto* pixels = levels.data<std::uint8_t>();
  double sum = 0.0;
  int worst = 0;
  for (std::size_t i = 0; i < image.rgb.size(); ++i) {
    const int difference = std::abs(static_cast<int>(image.rgb[i]) - static_cast<int>(pixels[i]));
    sum += difference;
    worst = std::max(worst, difference);
  }
  return {sum / static_cast<double>(image.rgb.size()), worst};
}

struct Tolerance {
  float embeds, latents;
  double mean_levels;
  int worst_levels;
};
inline constexpr Tolerance kFloat32Run{kPipelineFloat32, kPipelineFloat32, 0.05, 1};
inline constexpr Tolerance kBfloat16Run{2e-2f, 3e-2f, 2.0, 20};

}  // namespace klein::test
