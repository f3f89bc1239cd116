#include <algorithm>
#include <array>
#include <limits>

#include "klein/quant/formats.h"
#include "klein/quant/ggml_blocks.h"
#include "klein/quant/lanes.h"
#include "klein/quant/packed.h"

namespace klein::quant {

namespace {

constexpr std::array<float, 256> make_e4m3_table() {
  std::array<float, 256> table{};
  for (std::uint32_t i = 0; i < 256; ++i) {
    const std::uint32_t exponent = i >> 3 & 15u, mantissa = i & 7u;
    float value = static_cast<float>(exponent ? mantissa + 8u : mantissa);
    for (std::uint32_t e = std::max(exponent, 1u); e < 10; ++e) value *= 0.5f;
    for (std::uint32_t e = 10; e < exponent; ++e) value *= 2.0f;
    if ((i & 127u) == 127u) value = std::numeric_limits<float>::quiet_NaN();
    table[i] = i & 128u ? -value : value;
  }
  return table;
}

constexpr auto kE4M3 = make_e4m3_table();

/// 2^(x - 127), whose lowest is a subnormal float; 255 is NaN.
KLEIN_INLINE float e8m0(std::uint32_t x) {
  if (x == 0) return 0x1p-127f;
  return std::bit_cast<float>(x == 255u ? 0x7fc00000u : x << 23);
}

/// The scale or bias at `index`.
KLEIN_INLINE float scale_at(ScaleType type, const std::byte* data, std::int64_t index) {
  switch (type) {
    case ScaleType::float32:
      return load<float>(data + index * 4);
    case ScaleType::float16:
      return half_at(data + index * 2);
    case ScaleType::bfloat16:
      return std::bit_cast<float>(std::uint32_t{load<std::uint16_t>(data + index * 2)} << 16);
    case ScaleType::e4m3:
      return kE4M3[std::to_integer<std::size_t>(data[index])];
    default:
      return e8m0(std::to_integer<std::uint32_t>(data[index]));
  }
}

/// Eight codes of kBits from 8 bytes that begin with them, as numbers.
///
/// Four codes lie in the word at the front, four in the word that begins with the byte of the
/// fifth.
template <int kBits>
KLEIN_INLINE Words codes_at(const std::byte* in) {
  constexpr int kSecond = kBits / 2;  // the fifth code's byte, and then its bit
  constexpr std::uint32_t b = kBits, odd = 4 * kBits - 8 * kSecond;
  const auto first = load<std::uint32_t>(in), second = load<std::uint32_t>(in + kSecond);
  const Words words = {first, first, first, first, second, second, second, second};
  const Words shifts = {0, b, 2 * b, 3 * b, odd, odd + b, odd + 2 * b, odd + 3 * b};
  return words >> shifts & ((1u << kBits) - 1u);
}

/// Eight nibbles from 4 bytes.
template <bool kHighFirst>
KLEIN_INLINE Words nibbles_at(const std::byte* in) {
  const Words low_first = {0, 4, 8, 12, 16, 20, 24, 28}, high_first = {4, 0, 12, 8, 20, 16, 28, 24};
  return all(load<std::uint32_t>(in)) >> (kHighFirst ? high_first : low_first) & 15u;
}

/// Calls eight(group, column, in) for every eight codes of kBits of a row; 8 bytes can be read at
/// `in`.
template <int kBits, typename Eight>
KLEIN_INLINE void for_eights(const PackedView& m, const std::byte* in, const Eight& eight) {
  const int size = m.layout.group_size;
  const std::byte* safe = in + static_cast<std::int64_t>(row_bytes(m.layout, m.columns)) - 8;
  std::int64_t column = 0;
  for (std::int64_t group = 0; column < m.columns; ++group) {
    const auto values = eight.group(group);
    for (const std::int64_t end = column + size; column < end; column += 8, in += kBits) {
      if (kBits == 4 || kBits == 8 || in <= safe) {
        eight.put(values, column, in);
      } else {
        std::byte last[8] = {};
        std::memcpy(last, in, kBits);
        eight.put(values, column, last);
      }
    }
  }
}

template <int kBits, typename Out>
struct AffineRow {
  const PackedView& m;
  std::int64_t row;
  Sink<Out> to;

  struct Group {
    float scale, bias;
  };
  KLEIN_INLINE Group group(std::int64_t index) const {
    const std::int64_t at = m.scales_per_row == 0 ? 0 : row * m.scales_per_row + index;
    const auto type = m.layout.scale_type;
    return {m.scales ? scale_at(type, m.scales, at) : 1.0f,
            m.biases ? scale_at(type, m.biases, at) : 0.0f};
  }
  KLEIN_INLINE void put(Group g, std::int64_t column, const std::byte* in) const {
    Words codes;
    if constexpr (kBits == 4)
      codes = nibbles_at<false>(in);
    else if constexpr (kBits == 8)
      codes = bytes_at(in);
    else
      codes = codes_at<kBits>(in);
    to.put(column, to_floats(codes) * g.scale + g.bias);
  }
};

/// MXFP8, MXFP4, NVFP4: small floats whose groups have a scale.
template <typename Number, bool kHighFirst, typename Out>
struct FloatRow {
  const PackedView& m;
  std::int64_t row;
  Sink<Out> to;

  KLEIN_INLINE float group(std::int64_t index) const {
    const std::int64_t at = m.scales_per_row == 0 ? 0 : row * m.scales_per_row + index;
    return m.global_scale * (m.scales ? scale_at(m.layout.scale_type, m.scales, at) : 1.0f);
  }
  KLEIN_INLINE void put(float scale, std::int64_t column, const std::byte* in) const {
    if constexpr (Number::kSign == 7)
      to.put(column, Number::decode(bytes_at(in)) * scale);
    else
      to.put(column, Number::decode(nibbles_at<kHighFirst>(in)) * scale);
  }
};

struct SignedByte {
  KLEIN_INLINE static Floats decode(Words x) { return to_floats((Words)((Ints)(x << 24) >> 24)); }
};

/// The rows of one matrix, from the one that stands first in `out`.
template <typename Out>
struct Rows {
  const PackedView& m;
  std::int64_t begin, end;
  Out* out;

  template <typename Row, int kBits>
  KLEIN_INLINE void grouped() const {
    const auto bytes = static_cast<std::int64_t>(row_bytes(m.layout, m.columns));
    for (std::int64_t row = begin; row < end; ++row)
      for_eights<kBits>(m, m.codes + row * bytes,
                        Row{m, row, {out + (row - begin) * m.columns, m.column_scales}});
  }

  template <int kBits>
  KLEIN_INLINE void affine() const {
    grouped<AffineRow<kBits, Out>, kBits>();
  }

  KLEIN_INLINE void fp4() const {
    if (m.layout.high_nibble_first)
      grouped<FloatRow<E2M1, true, Out>, 4>();
    else
      grouped<FloatRow<E2M1, false, Out>, 4>();
  }

  /// A byte a number and a scale a row.
  template <typename Number>
  KLEIN_INLINE void bytes() const {
    for (std::int64_t row = begin; row < end; ++row) {
      const std::byte* in = m.codes + row * m.columns;
      const Sink<Out> to{out + (row - begin) * m.columns, m.column_scales};
      const std::int64_t at = m.scales_per_row == 0 ? 0 : row;
      const float scale = m.scales ? scale_at(m.layout.scale_type, m.scales, at) : 1.0f;
      std::int64_t column = 0;
      for (; column + 8 <= m.columns; column += 8)
        to.put(column, Number::decode(bytes_at(in + column)) * scale);
      if (column == m.columns) continue;
      std::byte last[8] = {};
      std::memcpy(last, in + column, static_cast<std::size_t>(m.columns - column));
      to.put(column, Number::decode(bytes_at(last)) * scale, m.columns - column);
    }
  }

  template <Format kFormat>
  KLEIN_INLINE void blocks() const {
    constexpr auto kBlock = row_of(kFormat);
    const std::int64_t across = m.columns / kBlock.columns;
    const std::byte* in = m.codes + begin * across * kBlock.bytes;
    for (std::int64_t row = begin; row < end; ++row) {
      const Sink<Out> to{out + (row - begin) * m.columns, m.column_scales};
      for (std::int64_t i = 0; i < across; ++i, in += kBlock.bytes)
        decode_block(FormatTag<kFormat>(), in, to.at(i * kBlock.columns));
    }
  }
};

template <typename Out>
KLEIN_INLINE void decode_affine(const Rows<Out>& rows) {
  switch (rows.m.layout.bits) {
    case 2:
      return rows.template affine<2>();
    case 3:
      return rows.template affine<3>();
    case 4:
      return rows.template affine<4>();
    case 5:
      return rows.template affine<5>();
    case 6:
      return rows.template affine<6>();
    default:
      return rows.template affine<8>();
  }
}

template <typename Out>
KLEIN_INLINE void decode_rows_as(const Rows<Out>& rows) {
  switch (rows.m.layout.format) {
    case Format::affine:
      return decode_affine(rows);
    case Format::fp8_e4m3:
      return rows.template bytes<E4M3>();
    case Format::fp8_e5m2:
      return rows.template bytes<E5M2>();
    case Format::int8:
      return rows.template bytes<SignedByte>();
    case Format::mxfp8:
      return rows.template grouped<FloatRow<E4M3, false, Out>, 8>();
    case Format::mxfp4:
    case Format::nvfp4:
      return rows.fp4();
    case Format::q4_0:
      return rows.template blocks<Format::q4_0>();
    case Format::q4_1:
      return rows.template blocks<Format::q4_1>();
    case Format::q5_0:
      return rows.template blocks<Format::q5_0>();
    case Format::q5_1:
      return rows.template blocks<Format::q5_1>();
    case Format::q8_0:
      return rows.template blocks<Format::q8_0>();
    case Format::q2_k:
      return rows.template blocks<Format::q2_k>();
    case Format::q3_k:
      return rows.template blocks<Format::q3_k>();
    case Format::q4_k:
      return rows.template blocks<Format::q4_k>();
    case Format::q5_k:
      return rows.template blocks<Format::q5_k>();
    case Format::q6_k:
      return rows.template blocks<Format::q6_k>();
  }
}

KLEIN_CLONES
void decode_floats(const Rows<float>& rows) {
  decode_rows_as(rows);
}

KLEIN_CLONES
void decode_bf16(const Rows<std::uint16_t>& rows) {
  decode_rows_as(rows);
}

}  // namespace

void decode_rows(const PackedView& matrix, std::int64_t begin, std::int64_t end, float* out) {
  if (matrix.columns == 0) return;  // a file can state any number of such rows
  decode_floats({matrix, begin, end, out});
}

void decode_rows_bf16(const PackedView& matrix, std::int64_t begin, std::int64_t end,
                      std::uint16_t* out) {
  if (matrix.columns == 0) return;
  decode_bf16({matrix, begin, end, out});
}

}  // namespace klein::quant
