#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string_view>

namespace klein::quant {

/// How the numbers of a matrix are written in few bits.
enum class Format {
  affine,    ///< code * scale + bias a group; codes of 2 to 8 bits, low bits first (MLX).
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

/// What a scale or bias is stored as.
enum class ScaleType { float32, float16, bfloat16, e4m3, e8m0 };

/// Bytes of one scale.
std::size_t scale_bytes(ScaleType type);

/// What decoding has to know beside the format.
struct Layout {
  Format format = Format::affine;
  int bits = 0;        ///< affine: of a code.
  int group_size = 0;  ///< affine, mxfp8, mxfp4, nvfp4: columns that share a scale.
  bool high_nibble_first = false;  ///< mxfp4, nvfp4: column 0 is in the high half of byte 0.
  ScaleType scale_type = ScaleType::float32;

  bool operator==(const Layout&) const = default;
};

/// Columns that only decode together; the columns of a matrix are a multiple of it.
int block_columns(const Layout& layout);

/// Bytes of the codes of one row.
std::size_t row_bytes(const Layout& layout, std::int64_t columns);

/// A packed matrix in memory. Scales and biases are row-major and one row's stand together, also
/// where a file had them in tiles.
struct PackedView {
  Layout layout;
  std::int64_t rows = 0;
  std::int64_t columns = 0;
  const std::byte* codes = nullptr;   ///< rows * row_bytes(layout, columns); any alignment.
  const std::byte* scales = nullptr;  ///< rows * scales_per_row, or a single one; null: all are 1.
  const std::byte* biases = nullptr;  ///< affine: as many as scales, of the same type.
  std::int64_t scales_per_row = 0;    ///< 0: one for the whole matrix.
  float global_scale = 1.0f;          ///< nvfp4: multiplies everything.
  const float* column_scales = nullptr;  ///< [columns]; multiplies the columns where it is set.
};

/// Rows [begin, end) as floats, as the format's own reference code decodes them.
///
/// Shapes   out [end - begin, columns]
/// Dtype    computed in float32, in the order of operations of the reference
/// Thread   any
/// Source   ggml (blocks), MLX (affine, mx and nv formats), OCP MX 1.0, torch (float8)
void decode_rows(const PackedView& matrix, std::int64_t begin, std::int64_t end, float* out);

/// Scales that lie in tiles of 128 rows by 4 columns, as matrix units of GPUs read them, in rows.
///
/// Shapes   tiled: ceil(rows / 128) * ceil(columns / 4) tiles of 512 bytes -> out [rows, columns]
/// Source   NVIDIA cuBLAS documentation, block scaling factors layout
void untile_scales(std::span<const std::byte> tiled, std::int64_t rows, std::int64_t columns,
                   std::byte* out);

}  // namespace klein::quant
