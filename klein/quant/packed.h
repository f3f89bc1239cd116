#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string_view>

namespace klein::quant {

/// How the numbers of a matrix are written in few bits.
enum class Format {
  affine,    ///< code * scale + bias a group; low bits of a code come first (MLX).
  fp8_e4m3,  ///< A byte a number, times one scale for the matrix or for each row.
  fp8_e5m2,  ///< The same with a wider exponent.
  int8,      ///< A signed byte a number, times one scale for the matrix or for each row.
  mxfp8,     ///< E4M3 bytes; 32 share a power of two (E8M0).
  mxfp4,     ///< E2M1 nibbles; 32 share a power of two (E8M0).
  nvfp4,     ///< E2M1 nibbles; 16 share an E4M3 scale, all of them a float.
  q4_0,      ///< From here on ggml's blocks, which hold their scales themselves.
  q4_1,
  q5_0,
  q5_1,
  q8_0,
  q2_k,
  q3_k,
  q4_k,
  q5_k,
  q6_k,
};

/// "Q4_K", "NVFP4", "FP8 E4M3": for messages and tables.
std::string_view format_name(Format format);

/// The format of ggml's blocks of that name ("Q4_K"), or nothing when it is not decoded here.
std::optional<Format> ggml_format(std::string_view name);

/// What a scale or bias is stored as.
enum class ScaleType { float32, float16, bfloat16, e4m3, e8m0 };

/// Bytes of one scale.
std::size_t scale_bytes(ScaleType type);

/// What decoding has to know beside the format.
struct Layout {
  Format format = Format::affine;
  int bits = 0;                    ///< affine: of a code.
  int group_size = 0;              ///< affine, mxfp8, mxfp4, nvfp4: columns that share a scale.
  bool high_nibble_first = false;  ///< mxfp4, nvfp4: column 0 is in the high half of byte 0.
  ScaleType scale_type = ScaleType::float32;

  bool operator==(const Layout&) const = default;
};

/// Refuses what decode_rows cannot decode.
///
/// Errors   Error(unsupported) when affine codes have other than 2, 3, 4, 5, 6 or 8 bits, or groups
///          are no multiple of 8 columns; Error(shape) when the columns are not whole blocks
void expect_decodable(const Layout& layout, std::int64_t columns);

/// Columns that only decode together; the columns of a matrix are a multiple of it.
int block_columns(const Layout& layout);

/// Bytes of the codes of one row.
std::size_t row_bytes(const Layout& layout, std::int64_t columns);

/// A packed matrix in memory. Scales and biases are row-major and one row's stand together, also
/// where a file had them in tiles. Nothing needs to be aligned.
struct PackedView {
  Layout layout;
  std::int64_t rows = 0;
  std::int64_t columns = 0;
  const std::byte* codes = nullptr;   ///< rows * row_bytes(layout, columns).
  const std::byte* scales = nullptr;  ///< rows * scales_per_row, or a single one; null: all are 1.
  const std::byte* biases = nullptr;  ///< affine: as many as scales, of the same type; null: 0.
  std::int64_t scales_per_row = 0;    ///< columns / group_size, 1 (fp8, int8), or 0: one for all.
  float global_scale = 1.0f;          ///< nvfp4: multiplies everything.
  const float* column_scales = nullptr;  ///< [columns]; multiplies the columns where it is set.
};

/// Rows [begin, end) as floats, as the format's own reference code decodes them.
///
/// The layout has passed expect_decodable.
///
/// Shapes   out [end - begin, columns]
/// Dtype    computed in float32, in the order of operations of the reference; NVFP4 as
///          number * (global scale * scale)
/// Thread   any
/// Source   ggml (blocks), MLX (affine, mx and nv formats), comfy-kitchen (NVFP4's global scale),
///          OCP MX 1.0 (E8M0: 255 is NaN), torch (float8)
void decode_rows(const PackedView& matrix, std::int64_t begin, std::int64_t end, float* out);

/// The same rounded to bfloat16 at the end, to nearest and ties to even: what is written are the
/// bits.
void decode_rows_bf16(const PackedView& matrix, std::int64_t begin, std::int64_t end,
                      std::uint16_t* out);

/// Scales of a byte that lie in tiles of 128 rows by 4 columns, as matrix units of GPUs read them,
/// in rows.
///
/// Shapes   tiled: ceil(rows / 128) * ceil(columns / 4) tiles of 512 bytes -> out [rows, columns]
/// Errors   Error(shape) when `tiled` has another size
/// Source   NVIDIA cuBLAS documentation, block scaling factors layout
void untile_scales(std::span<const std::byte> tiled, std::int64_t rows, std::int64_t columns,
                   std::byte* out);

}  // namespace klein::quant
