#pragma once

#include <bit>
#include <cstddef>
#include <cstdint>
#include <cstring>

#include "klein/core/clones.h"

/// Eight numbers at a time, for loops that stand in a function with KLEIN_CLONES.
namespace klein::quant {

using Floats = float __attribute__((vector_size(32)));
using Words = std::uint32_t __attribute__((vector_size(32)));
using Ints = std::int32_t __attribute__((vector_size(32)));
using Shorts = std::uint16_t __attribute__((vector_size(32)));
using Halves = std::uint16_t __attribute__((vector_size(16)));
using Bytes = std::uint8_t __attribute__((vector_size(16)));
using Longs = std::uint64_t __attribute__((vector_size(16)));

/// A value at any address.
template <typename T>
KLEIN_INLINE T load(const void* in) {
  T value;
  std::memcpy(&value, in, sizeof(T));
  return value;
}

KLEIN_INLINE Words all(std::uint32_t x) {
  return Words{x, x, x, x, x, x, x, x};
}

/// Eight bytes as numbers 0 to 255.
///
/// By way of 16 bits: compilers take a direct conversion apart, byte by byte.
KLEIN_INLINE Words bytes_at(const std::byte* in) {
  const Bytes bytes = (Bytes)Longs{load<std::uint64_t>(in), 0};
  const Bytes pairs = __builtin_shufflevector(bytes, Bytes{}, 0, 16, 1, 17, 2, 18, 3, 19, 4, 20, 5,
                                              21, 6, 22, 7, 23);
  return __builtin_convertvector((Halves)pairs, Words);
}

/// Eight signed bytes.
KLEIN_INLINE Floats chars_at(const std::byte* in) {
  const Words bytes = bytes_at(in);
  return __builtin_convertvector((Ints)(bytes << 24) >> 24, Floats);
}

/// Small whole numbers, possibly below zero in two's complement.
KLEIN_INLINE Floats to_floats(Words x) {
  return __builtin_convertvector((Ints)x, Floats);
}

/// All bits where a < b, for a and b below 2^31.
KLEIN_INLINE Words less(Words a, std::uint32_t b) {
  return (Words)((Ints)a < (Ints)all(b));
}
KLEIN_INLINE std::uint32_t less(std::uint32_t a, std::uint32_t b) {
  return a < b ? ~0u : 0u;
}

/// Floats of few bits: sign, exponent with the usual bias, mantissa with a hidden one.
///
/// `kTop` is the first magnitude that is no number: infinity or NaN.
template <int kExponent, int kMantissa, std::uint32_t kTop>
struct SmallFloat {
  static constexpr int kSign = kExponent + kMantissa;
  static constexpr int kShift = 23 - kMantissa;
  static constexpr std::uint32_t kBias = 127u - ((1u << (kExponent - 1)) - 1u);

  /// Magnitude as a float32, without arithmetic on float32's own subnormals: what has no hidden one
  /// gets it, and `excess` says what has then to be taken off.
  template <typename T>
  KLEIN_INLINE static T magnitude(T x, T& excess) {
    const T small = less(x, 1u << kMantissa);
    excess = small & ((kBias + 1u) << 23);
    const T exponent = (x << kShift) + (kBias << 23) + (small & (1u << 23));
    if constexpr (kTop >> kSign) return exponent;  // every code is a number
    return exponent | (~less(x, kTop) & 0x7f800000u);
  }

  KLEIN_INLINE static Floats decode(Words x) {
    Words excess;
    const Words high = magnitude(x & ((1u << kSign) - 1u), excess);
    const Floats value = (Floats)high - (Floats)excess;
    return (Floats)((Words)value | (x >> kSign & 1u) << 31);
  }

  KLEIN_INLINE static float decode(std::uint32_t x) {
    std::uint32_t excess = 0;
    const std::uint32_t high = magnitude(x & ((1u << kSign) - 1u), excess);
    const float value = std::bit_cast<float>(high) - std::bit_cast<float>(excess);
    return std::bit_cast<float>(std::bit_cast<std::uint32_t>(value) | (x >> kSign & 1u) << 31);
  }
};

using Half = SmallFloat<5, 10, 0x7c00>;
using E4M3 = SmallFloat<4, 3, 0x7f>;
using E5M2 = SmallFloat<5, 2, 0x7c>;
using E2M1 = SmallFloat<2, 1, 8>;

KLEIN_INLINE float half_at(const std::byte* in) {
  return Half::decode(std::uint32_t{load<std::uint16_t>(in)});
}

/// Where decoded columns of one row go.
template <typename Out>
struct Sink {
  Out* out = nullptr;
  const float* column_scales = nullptr;

  KLEIN_INLINE Sink at(std::int64_t column) const {
    return {out + column, column_scales ? column_scales + column : nullptr};
  }

  KLEIN_INLINE void put(std::int64_t column, Floats x) const {
    if (column_scales) x *= load<Floats>(column_scales + column);
    if constexpr (sizeof(Out) == sizeof(float)) {
      std::memcpy(out + column, &x, sizeof(x));
    } else {
      // No carry for a NaN, which could become an infinity; what arithmetic returns is a quiet one.
      const Words bits = (Words)x;
      const Words rounded = bits + (((bits >> 16 & 1u) + 0x7fffu) & (Words)(x == x));
      const auto low =
          __builtin_shufflevector((Shorts)rounded, (Shorts)rounded, 1, 3, 5, 7, 9, 11, 13, 15);
      std::memcpy(out + column, &low, sizeof(low));
    }
  }

  /// The first `count` of eight.
  KLEIN_INLINE void put(std::int64_t column, Floats x, std::int64_t count) const {
    float scales[8] = {};
    Out parts[8];
    const auto taken = static_cast<std::size_t>(count);
    if (column_scales) std::memcpy(scales, column_scales + column, taken * sizeof(float));
    Sink{parts, column_scales ? scales : nullptr}.put(0, x);
    std::memcpy(out + column, parts, taken * sizeof(Out));
  }
};

}  // namespace klein::quant
