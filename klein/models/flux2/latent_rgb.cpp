#include "klein/models/flux2/latent_rgb.h"

#include <algorithm>
#include <array>

#include <fmt/format.h>

#include "klein/core/error.h"
#include "klein/io/json.h"
#include "klein/models/flux2/pictures.h"

namespace klein::flux2 {
namespace {

// Source   leejet/stable-diffusion.cpp, latent-preview.h
constexpr std::array<std::array<float, 3>, 32> kPublishedWeight = {{
    {0.000736f, -0.008385f, -0.01971f},  {-0.001352f, -0.016392f, 0.020693f},
    {-0.006376f, 0.002428f, 0.036736f},  {0.039384f, 0.074167f, 0.119789f},
    {0.007464f, -0.005705f, -0.004734f}, {-0.004086f, 0.005287f, -0.000409f},
    {-0.032835f, 0.050802f, -0.02812f},  {-0.003158f, -0.000835f, 0.000406f},
    {-0.11284f, -0.084337f, -0.023083f}, {0.001462f, -0.006656f, 0.000549f},
    {-0.00998f, -0.00748f, 0.009702f},   {0.03254f, 0.000214f, -0.061388f},
    {0.011023f, 0.000694f, 0.007143f},   {-0.001468f, -0.006723f, -0.001678f},
    {-0.005921f, -0.01032f, -0.003907f}, {-0.028434f, 0.027584f, 0.018457f},
    {0.014349f, 0.011523f, 0.000441f},   {0.009874f, 0.003081f, 0.001507f},
    {0.002218f, 0.005712f, 0.001563f},   {0.05301f, -0.019844f, 0.008683f},
    {-0.002507f, 0.005384f, 0.000938f},  {-0.002177f, -0.011366f, 0.003559f},
    {-0.000261f, 0.015121f, -0.00324f},  {-0.003944f, -0.002083f, 0.005043f},
    {-0.009138f, 0.011336f, 0.003781f},  {0.011429f, 0.003985f, -0.003855f},
    {0.010518f, -0.005586f, 0.010131f},  {0.007883f, 0.002912f, -0.001473f},
    {-0.003318f, -0.00316f, 0.003684f},  {-0.03456f, -0.00874f, 0.012996f},
    {0.000166f, 0.001079f, -0.012153f},  {0.017772f, 0.000937f, -0.011953f},
}};
constexpr std::array<float, 3> kPublishedBias = {-0.028738f, -0.098463f, -0.107619f};

std::vector<float> numbers(const nlohmann::json& row, const std::string& where) {
  const bool fits = row.is_array() && row.size() == 3 &&
                    std::ranges::all_of(row, [](const auto& x) { return x.is_number(); });
  if (!fits)
    throw Error(ErrorKind::format,
                fmt::format("expected rows of 3 numbers in a map from latents to RGB: {}", where));
  return row.get<std::vector<float>>();
}

}  // namespace

LatentRgb LatentRgb::published() {
  std::vector<float> weight;
  for (const auto& row : kPublishedWeight) weight.insert(weight.end(), row.begin(), row.end());
  return {mx::array(weight.begin(), {static_cast<int>(kPublishedWeight.size()), 3}),
          mx::array(kPublishedBias.begin(), {3})};
}

LatentRgb LatentRgb::read(const std::filesystem::path& path) {
  const auto where = path.string();
  const auto json = io::parse_json_file(path);
  if (!json.contains("weight") || !json["weight"].is_array() || json["weight"].empty() ||
      !json.contains("bias"))
    throw Error(ErrorKind::format,
                fmt::format("expected a map from latents to RGB with weight and bias: {}", where));
  std::vector<float> weight;
  for (const auto& row : json["weight"])
    for (const float value : numbers(row, where)) weight.push_back(value);
  const auto bias = numbers(json["bias"], where);
  return {mx::array(weight.begin(), {static_cast<int>(weight.size() / 3), 3}),
          mx::array(bias.begin(), {3})};
}

std::vector<io::Image> LatentRgb::operator()(const mx::array& latents) const {
  const auto rgb = mx::matmul(mx::astype(latents, mx::float32), weight) + bias;
  std::vector<io::Image> images;
  for (int b = 0; b < rgb.shape(0); ++b)
    images.push_back(
        to_image(mx::slice(rgb, {b, 0, 0, 0}, {b + 1, rgb.shape(1), rgb.shape(2), 3})));
  return images;
}

}  // namespace klein::flux2
