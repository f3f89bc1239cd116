#include <algorithm>
#include <cmath>
#include <cstdint>
#include <vector>

#include <fmt/format.h>

#include "klein/core/error.h"
#include "klein/io/resize.h"
#include "klein/pipeline/canvas.h"
#include "klein/pipeline/nearest.h"

namespace klein {

namespace {

using Weights = std::vector<std::uint8_t>;

std::vector<float> distances_to(const Weights& marked, int width, int height) {
  std::vector<float> distances;
  distances.reserve(marked.size());
  for (const Step& way : ways_to_nearest(marked, width, height))
    distances.push_back(std::sqrt(static_cast<float>(way.squared())));
  return distances;
}

/// The mask, rising from 0 over `width` pixels inside its edge. Where it is thinner than that it
/// stays as it is: what is to vanish there would shine through.
Weights faded(const io::GreyImage& mask, float width) {
  Weights weights = mask.grey, marked(mask.grey.size());
  std::transform(mask.grey.begin(), mask.grey.end(), marked.begin(),
                 [](int value) { return static_cast<std::uint8_t>(value == 0); });
  auto distance = distances_to(marked, mask.width, mask.height);
  width = std::min(width, *std::max_element(distance.begin(), distance.end()) / 2);
  if (width < 1) return weights;

  const auto deep = [&](float value) { return static_cast<std::uint8_t>(value >= width + 1); };
  std::transform(distance.begin(), distance.end(), marked.begin(), deep);
  for (std::size_t i = 0; i < weights.size(); ++i) {
    const float t = std::min(distance[i] / (width + 1), 1.0f);
    distance[i] = t * t * (3 - 2 * t);
  }
  const auto to_deep = distances_to(marked, mask.width, mask.height);
  for (std::size_t i = 0; i < weights.size(); ++i) {
    const float thinness = std::clamp((to_deep[i] - 1.5f * width) / width, 0.0f, 1.0f);
    weights[i] = static_cast<std::uint8_t>(
        std::lround(static_cast<float>(weights[i]) * std::max(distance[i], thinness)));
  }
  return weights;
}

/// faded(), looking only at what is not black and the pixels next to it.
Weights faded_part(const io::GreyImage& mask, float width) {
  Box box = bounds_of(mask);
  box = {std::max(box.left - 1, 0), std::max(box.top - 1, 0), std::min(box.right + 1, mask.width),
         std::min(box.bottom + 1, mask.height)};
  const Weights part = faded(crop(mask, box.left, box.top, box.width(), box.height()), width);
  Weights weights(mask.grey.size());
  const auto row = static_cast<std::ptrdiff_t>(box.width());
  for (int y = 0; y < box.height(); ++y)
    std::copy_n(part.begin() + y * row, row,
                weights.begin() + std::ptrdiff_t{box.top + y} * mask.width + box.left);
  return weights;
}

/// Puts `part` over `picture` at `box`, each pixel with its weight of 255.
void mix(io::Image& picture, const io::Image& part, const Box& box, const Weights& weights) {
  const auto width = static_cast<std::size_t>(picture.width);
  const auto* source = part.rgb.data();
  for (int y = box.top; y < box.bottom; ++y) {
    const std::size_t at = static_cast<std::size_t>(y) * width + static_cast<std::size_t>(box.left);
    const auto* weight = weights.data() + at;
    auto* target = picture.rgb.data() + 3 * at;
    for (int x = box.left; x < box.right; ++x, ++weight)
      for (int c = 0; c < 3; ++c, ++target, ++source)
        *target =
            static_cast<std::uint8_t>((*target * (255 - *weight) + *source * *weight + 127) / 255);
  }
}

}  // namespace

io::Image finish(const Canvas& canvas, const io::Image& generated, Preserve preserve) {
  expect_whole(generated);
  if (generated.width != canvas.picture.width || generated.height != canvas.picture.height)
    throw Error(
        ErrorKind::shape,
        fmt::format("expected a generated picture of {} x {}, got {} x {}", canvas.picture.width,
                    canvas.picture.height, generated.width, generated.height));
  if (preserve == Preserve::none && !canvas.crop) return generated;

  io::Image result = canvas.original;
  const Box box = canvas.crop.value_or(Box{0, 0, result.width, result.height});
  const Box& content = canvas.content;
  const io::Image part =
      resize(crop(generated, content.left, content.top, content.width(), content.height()),
             box.width(), box.height());
  // Pixels to fade in over: a token's width where the part is about 1024 wide.
  const float fade = std::max(4.0f, static_cast<float>(std::min(box.width(), box.height())) / 64);
  mix(result, part, box,
      preserve == Preserve::blend ? faded_part(canvas.original_mask, fade)
                                  : canvas.original_mask.grey);
  return result;
}

}  // namespace klein
