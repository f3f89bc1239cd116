#pragma once

#include <type_traits>

#include "klein/quant/lanes.h"
#include "klein/quant/packed.h"

/// ggml's blocks, one function each: all numbers of the block at `in` go to `to`.
///
/// Products and sums stand in the order of the reference: (d * scale) * code - (dmin * minimum).
/// Source   ggml, ggml-quants.c, dequantize_row_*; gguf-py, quants.py
namespace klein::quant {

template <Format kFormat>
using FormatTag = std::integral_constant<Format, kFormat>;

/// The bit `first + i` of `bits` for number i, moved to the value 16.
KLEIN_INLINE Words fifth_bits(std::uint32_t bits, int first) {
  const Words place = Words{0, 1, 2, 3, 4, 5, 6, 7} + static_cast<std::uint32_t>(first);
  return (all(bits) >> place & 1u) << 4;
}

template <typename Sink>
KLEIN_INLINE void decode_block(FormatTag<Format::q4_0>, const std::byte* in, Sink to) {
  const float d = half_at(in);
  for (int i = 0; i < 16; i += 8) {
    const Words codes = bytes_at(in + 2 + i);
    to.put(i, d * to_floats((codes & 15u) - 8u));
    to.put(i + 16, d * to_floats((codes >> 4) - 8u));
  }
}

template <typename Sink>
KLEIN_INLINE void decode_block(FormatTag<Format::q4_1>, const std::byte* in, Sink to) {
  const float d = half_at(in), minimum = half_at(in + 2);
  for (int i = 0; i < 16; i += 8) {
    const Words codes = bytes_at(in + 4 + i);
    to.put(i, d * to_floats(codes & 15u) + minimum);
    to.put(i + 16, d * to_floats(codes >> 4) + minimum);
  }
}

template <typename Sink>
KLEIN_INLINE void decode_block(FormatTag<Format::q5_0>, const std::byte* in, Sink to) {
  const float d = half_at(in);
  const auto high = load<std::uint32_t>(in + 2);
  for (int i = 0; i < 16; i += 8) {
    const Words codes = bytes_at(in + 6 + i);
    to.put(i, d * to_floats(((codes & 15u) | fifth_bits(high, i)) - 16u));
    to.put(i + 16, d * to_floats((codes >> 4 | fifth_bits(high, i + 16)) - 16u));
  }
}

template <typename Sink>
KLEIN_INLINE void decode_block(FormatTag<Format::q5_1>, const std::byte* in, Sink to) {
  const float d = half_at(in), minimum = half_at(in + 2);
  const auto high = load<std::uint32_t>(in + 4);
  for (int i = 0; i < 16; i += 8) {
    const Words codes = bytes_at(in + 8 + i);
    to.put(i, d * to_floats((codes & 15u) | fifth_bits(high, i)) + minimum);
    to.put(i + 16, d * to_floats(codes >> 4 | fifth_bits(high, i + 16)) + minimum);
  }
}

template <typename Sink>
KLEIN_INLINE void decode_block(FormatTag<Format::q8_0>, const std::byte* in, Sink to) {
  const float d = half_at(in);
  for (int i = 0; i < 32; i += 8) to.put(i, d * chars_at(in + 2 + i));
}

template <typename Sink>
KLEIN_INLINE void decode_block(FormatTag<Format::q2_k>, const std::byte* in, Sink to) {
  const std::byte* codes = in + 16;
  const float d = half_at(in + 80), dmin = half_at(in + 82);
  for (int group = 0; group < 16; ++group) {
    const auto scale = std::to_integer<std::uint32_t>(in[group]);
    const float step = d * static_cast<float>(scale & 15u);
    const float minimum = dmin * static_cast<float>(scale >> 4);
    const int shift = group % 8 / 2 * 2;
    for (int i = 0; i < 16; i += 8) {
      const Words bytes = bytes_at(codes + group / 8 * 32 + group % 2 * 16 + i);
      to.put(group * 16 + i, step * to_floats(bytes >> shift & 3u) - minimum);
    }
  }
}

template <typename Sink>
KLEIN_INLINE void decode_block(FormatTag<Format::q3_k>, const std::byte* in, Sink to) {
  const std::byte* codes = in + 32;
  const std::byte* scales = in + 96;
  const float d = half_at(in + 108);
  for (int group = 0; group < 16; ++group) {
    // Six bits a scale: four in the first eight bytes, two in the last four.
    const auto low = std::to_integer<int>(scales[group % 8]) >> group / 8 * 4 & 15;
    const auto high = std::to_integer<int>(scales[8 + group % 4]) >> group / 4 * 2 & 3;
    const float step = d * static_cast<float>((low | high << 4) - 32);
    const int shift = group % 8 / 2 * 2;
    for (int i = 0; i < 16; i += 8) {
      const int place = group % 2 * 16 + i;
      const Words bits = bytes_at(codes + group / 8 * 32 + place) >> shift & 3u;
      const Words is_high = bytes_at(in + place) >> (group / 2) & 1u;
      to.put(group * 16 + i, step * to_floats(bits + (is_high << 2) - 4u));
    }
  }
}

/// Step and minimum of each of the eight groups of Q4_K and Q5_K.
struct SixBitScales {
  float step[8], minimum[8];

  /// At `in`: d, dmin, and twelve bytes that hold sixteen six-bit numbers.
  KLEIN_INLINE explicit SixBitScales(const std::byte* in) {
    const float d = half_at(in), dmin = half_at(in + 2);
    const auto first = load<std::uint32_t>(in + 4), second = load<std::uint32_t>(in + 8),
               third = load<std::uint32_t>(in + 12);
    const std::uint32_t scales[2] = {first & 0x3f3f3f3fu,
                                     (third & 0x0f0f0f0fu) | (first >> 2 & 0x30303030u)};
    const std::uint32_t minima[2] = {second & 0x3f3f3f3fu,
                                     (third >> 4 & 0x0f0f0f0fu) | (second >> 2 & 0x30303030u)};
    const Floats steps = d * to_floats(bytes_at(reinterpret_cast<const std::byte*>(scales)));
    const Floats least = dmin * to_floats(bytes_at(reinterpret_cast<const std::byte*>(minima)));
    std::memcpy(step, &steps, sizeof(step));
    std::memcpy(minimum, &least, sizeof(minimum));
  }
};

template <typename Sink>
KLEIN_INLINE void decode_block(FormatTag<Format::q4_k>, const std::byte* in, Sink to) {
  const SixBitScales scales(in);
  const std::byte* codes = in + 16;
  for (int group = 0; group < 8; group += 2, codes += 32)
    for (int i = 0; i < 32; i += 8) {
      const Words bytes = bytes_at(codes + i);
      const Sink out = to.at(group * 32 + i);
      out.put(0, scales.step[group] * to_floats(bytes & 15u) - scales.minimum[group]);
      out.put(32, scales.step[group + 1] * to_floats(bytes >> 4) - scales.minimum[group + 1]);
    }
}

template <typename Sink>
KLEIN_INLINE void decode_block(FormatTag<Format::q5_k>, const std::byte* in, Sink to) {
  const SixBitScales scales(in);
  const std::byte* codes = in + 48;
  for (int group = 0; group < 8; group += 2, codes += 32)
    for (int i = 0; i < 32; i += 8) {
      const Words bytes = bytes_at(codes + i);
      const Words high = bytes_at(in + 16 + i) >> group;
      const Words low_half = (bytes & 15u) | (high & 1u) << 4;
      const Words high_half = bytes >> 4 | (high & 2u) << 3;
      const Sink out = to.at(group * 32 + i);
      out.put(0, scales.step[group] * to_floats(low_half) - scales.minimum[group]);
      out.put(32, scales.step[group + 1] * to_floats(high_half) - scales.minimum[group + 1]);
    }
}

template <typename Sink>
KLEIN_INLINE void decode_block(FormatTag<Format::q6_k>, const std::byte* in, Sink to) {
  const float d = half_at(in + 208);
  float steps[16];
  for (int group = 0; group < 16; group += 8) {
    const Floats step = d * chars_at(in + 192 + group);
    std::memcpy(steps + group, &step, sizeof(step));
  }
  for (int half = 0; half < 2; ++half)
    for (int i = 0; i < 32; i += 8) {
      const Words first = bytes_at(in + half * 64 + i);
      const Words second = bytes_at(in + half * 64 + 32 + i);
      const Words high = bytes_at(in + 128 + half * 32 + i);
      const float* step = steps + half * 8 + i / 16;
      const Sink out = to.at(half * 128 + i);
      out.put(0, step[0] * to_floats(((first & 15u) | (high & 3u) << 4) - 32u));
      out.put(32, step[2] * to_floats(((second & 15u) | (high & 12u) << 2) - 32u));
      out.put(64, step[4] * to_floats((first >> 4 | (high & 48u)) - 32u));
      out.put(96, step[6] * to_floats((second >> 4 | (high & 192u) >> 2) - 32u));
    }
}

}  // namespace klein::quant
