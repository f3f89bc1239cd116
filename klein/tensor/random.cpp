#include "klein/tensor/random.h"

#include <algorithm>
#include <cmath>
#include <numbers>
#include <random>
#include <thread>
#include <vector>

#include "klein/core/error.h"

namespace klein {
namespace {

constexpr std::size_t kBlock = 16;

/// std::mt19937 in words of 32 bits, where the standard library takes 64: compilers make vectors of
/// it, which takes less than half the time.
using Mt19937 =
    std::mersenne_twister_engine<std::uint32_t, 32, 624, 397, 31, 0x9908b0df, 11, 0xffffffff, 7,
                                 0x9d2c5680, 15, 0xefc60000, 18, 1812433253>;

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

/// Blocks know nothing of each other, so several threads turn those of large noise.
void box_muller_blocks(float* values, std::size_t blocks) {
  constexpr std::size_t blocks_a_thread = 4096;  // about a millisecond
  const std::size_t threads = std::clamp<std::size_t>(
      blocks / blocks_a_thread, 1, std::max(1u, std::thread::hardware_concurrency()));
  std::vector<std::jthread> others;
  const auto run = [&](std::size_t part) {
    for (auto i = blocks * part / threads; i < blocks * (part + 1) / threads; ++i)
      box_muller(values + i * kBlock);
  };
  for (std::size_t part = 1; part < threads; ++part) others.emplace_back(run, part);
  run(0);
}

}  // namespace

std::vector<float> torch_normal(std::size_t count, std::uint64_t seed) {
  if (count < kBlock) throw Error(ErrorKind::unsupported, "expected noise of at least 16 values");

  Mt19937 engine(static_cast<std::uint32_t>(seed));  // torch keeps the low 32 bits too
  const auto uniform = [&] { return static_cast<float>(engine() & 0xFFFFFFu) * 0x1p-24f; };

  std::vector<float> values(count);
  for (auto& value : values) value = uniform();
  box_muller_blocks(values.data(), count / kBlock);
  if (count % kBlock != 0) {  // torch draws the last 16 again instead of a short block
    float* tail = &values[count - kBlock];
    for (std::size_t j = 0; j < kBlock; ++j) tail[j] = uniform();
    box_muller(tail);
  }
  return values;
}

mx::array torch_randn(const mx::Shape& shape, std::uint64_t seed) {
  std::size_t count = 1;
  for (const auto extent : shape) count *= static_cast<std::size_t>(extent);
  return mx::array(torch_normal(count, seed).data(), shape, mx::float32);
}

mx::array mlx_randn(const mx::Shape& shape, std::uint64_t seed) {
  return mx::random::normal(shape, mx::float32, mx::random::key(seed));
}

}  // namespace klein
