#pragma once

#include <algorithm>
#include <bit>
#include <cstdint>

#include "klein/core/clones.h"

namespace klein::ops::native {

/// The bits of a bfloat16 number.
struct Bf16 {
  std::uint16_t bits;
};

KLEIN_INLINE float to_float(float x) {
  return x;
}

KLEIN_INLINE float to_float(Bf16 x) {
  return std::bit_cast<float>(static_cast<std::uint32_t>(x.bits) << 16);
}

/// Rounds to T, to nearest and ties to even, as PyTorch does.
template <typename T>
KLEIN_INLINE T round_to(float x);

template <>
KLEIN_INLINE float round_to<float>(float x) {
  return x;
}

template <>
KLEIN_INLINE Bf16 round_to<Bf16>(float x) {
  const auto bits = std::bit_cast<std::uint32_t>(x);
  const std::uint32_t rounded = (bits + 0x7fffu + ((bits >> 16) & 1u)) >> 16;
  // The carry of the rounding could turn a NaN into an infinity. A mask and no choice: see below.
  const std::uint32_t nan = 0u - static_cast<std::uint32_t>((bits & 0x7fffffffu) > 0x7f800000u);
  return {static_cast<std::uint16_t>((rounded & ~nan) | (0x7fc0u & nan))};
}

/// The value that is left of x after it went through T.
template <typename T>
KLEIN_INLINE float through(float x) {
  return to_float(round_to<T>(x));
}

/// e^x to 2 units in the last place: 0 and infinity where float32 ends; NaN counts as infinite.
///
/// There is no choice between floats in it: compilers make branches of them, and a loop with
/// branches stays scalar.
KLEIN_INLINE float exponential(float x) {
  constexpr float kLog2e = 1.44269504f, kLn2High = 0.693359375f, kLn2Low = -2.12194440e-4f;
  constexpr float kRound = 12582912.0f;  // 1.5 * 2^23: adding it leaves the nearest integer below
  constexpr auto kEnd = std::bit_cast<std::uint32_t>(104.0f);  // e^104 is beyond float32
  const auto bits = std::bit_cast<std::uint32_t>(x);
  const std::uint32_t size = std::min(bits & 0x7fffffffu, kEnd);
  const float in = std::bit_cast<float>(size | (bits & 0x80000000u));
  const float shifted = in * kLog2e + kRound;
  const float n = shifted - kRound;
  const float r = (in - n * kLn2High) - n * kLn2Low;
  float p = 1.9875691500e-4f;
  p = p * r + 1.3981999507e-3f;
  p = p * r + 8.3334519073e-3f;
  p = p * r + 4.1665795894e-2f;
  p = p * r + 1.6666665459e-1f;
  p = p * r + 5.0000001201e-1f;
  p = p * (r * r) + r + 1.0f;
  // 2^150 and 2^-150 are no floats, so the power is applied as two factors.
  const auto exponent = std::bit_cast<std::int32_t>(shifted) - std::bit_cast<std::int32_t>(kRound);
  const std::int32_t half = exponent >> 1;
  const float power = std::bit_cast<float>((half + 127) << 23);
  const float rest = std::bit_cast<float>((exponent - half + 127) << 23);
  return p * power * rest;
}

KLEIN_INLINE float silu_of(float x) {
  return x / (1.0f + exponential(-x));
}

}  // namespace klein::ops::native
