#include "klein/tensor/random.h"

#include <cmath>
#include <numbers>
#include <random>

#include "klein/core/error.h"

namespace klein {
namespace {

constexpr std::size_t kBlock = 16;

/// Turns 16 uniform values into 16 normal ones (Box-Muller), in place: torch pairs value j with
/// value j + 8.
void box_muller(float* block) {
  constexpr std::size_t half = kBlock / 2;
  for (std::size_t j = 0; j < half; ++j) {
    const float u = 1.0f - block[j];  // in (0, 1]: the logarithm stays finite
    const float radius = std::sqrt(-2.0f * std::log(u));
    const float theta = 2.0f * std::numbers::pi_v<float> * block[j + half];
    block[j] = radius * std::cos(theta);
    block[j + half] = radius * std::sin(theta);
  }
}

}  // namespace

mx::array torch_randn(const mx::Shape& shape, std::uint64_t seed) {
  std::size_t count = 1;
  for (const auto extent : shape) count *= static_cast<std::size_t>(extent);
  if (count < kBlock) throw Error(ErrorKind::unsupported, "expected noise of at least 16 values");

  std::mt19937 engine(static_cast<std::uint32_t>(seed));  // torch keeps the low 32 bits too
  const auto uniform = [&] { return static_cast<float>(engine() & 0xFFFFFFu) * 0x1p-24f; };

  std::vector<float> values(count);
  for (auto& value : values) value = uniform();
  for (std::size_t i = 0; i + kBlock <= count; i += kBlock) box_muller(&values[i]);
  if (count % kBlock != 0) {  // torch draws the last 16 again instead of a short block
    float* tail = &values[count - kBlock];
    for (std::size_t j = 0; j < kBlock; ++j) tail[j] = uniform();
    box_muller(tail);
  }
  return mx::array(values.data(), shape, mx::float32);
}

mx::array mlx_randn(const mx::Shape& shape, std::uint64_t seed) {
  return mx::random::normal(shape, mx::float32, mx::random::key(seed));
}

}  // namespace klein
