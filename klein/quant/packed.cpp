#include "klein/quant/packed.h"

#include <algorithm>
#include <cstring>

#include <fmt/format.h>

#include "klein/core/error.h"
#include "klein/quant/formats.h"

namespace klein::quant {

namespace {

constexpr int kLanes = 8;  // what the decoder takes at a time
constexpr std::int64_t kTileRows = 128, kTileColumns = 4, kTileBytes = 512;

/// Bits of one code; 0 for ggml's blocks, whose codes do not stand alone.
int code_bits(const Layout& layout) {
  switch (layout.format) {
    case Format::affine:
      return layout.bits;
    case Format::fp8_e4m3:
    case Format::fp8_e5m2:
    case Format::int8:
    case Format::mxfp8:
      return 8;
    case Format::mxfp4:
    case Format::nvfp4:
      return 4;
    default:
      return 0;
  }
}

bool has_groups(Format format) {
  return format == Format::affine || format == Format::mxfp8 || format == Format::mxfp4 ||
         format == Format::nvfp4;
}

}  // namespace

std::string_view format_name(Format format) {
  return row_of(format).name;
}

std::optional<Format> ggml_format(std::string_view name) {
  for (std::size_t i = 0; i < kFormats.size(); ++i)
    if (kFormats[i].columns > 0 && kFormats[i].name == name) return static_cast<Format>(i);
  return std::nullopt;
}

std::size_t scale_bytes(ScaleType type) {
  switch (type) {
    case ScaleType::float32:
      return 4;
    case ScaleType::float16:
    case ScaleType::bfloat16:
      return 2;
    default:
      return 1;
  }
}

void expect_decodable(const Layout& layout, std::int64_t columns) {
  const auto name = format_name(layout.format);
  if (layout.format == Format::affine && (layout.bits < 2 || layout.bits == 7 || layout.bits > 8))
    throw Error(
        ErrorKind::unsupported,
        fmt::format("expected {} codes of 2, 3, 4, 5, 6 or 8 bits, got {}", name, layout.bits));
  if (has_groups(layout.format) && (layout.group_size <= 0 || layout.group_size % kLanes != 0))
    throw Error(ErrorKind::unsupported,
                fmt::format("expected {} groups of a multiple of {} columns, got {}", name, kLanes,
                            layout.group_size));
  const int block = block_columns(layout);
  if (columns < 0 || columns % block != 0)
    throw Error(ErrorKind::shape, fmt::format("expected {} columns in whole blocks of {}, got {}",
                                              name, block, columns));
}

int block_columns(const Layout& layout) {
  if (has_groups(layout.format)) return layout.group_size;
  return std::max(row_of(layout.format).columns, 1);
}

std::size_t row_bytes(const Layout& layout, std::int64_t columns) {
  const auto& block = row_of(layout.format);
  const auto count = static_cast<std::size_t>(columns);
  if (block.columns > 0)
    return count / static_cast<std::size_t>(block.columns) * static_cast<std::size_t>(block.bytes);
  // Eights first: a side of 2^61 columns must not overflow.
  const auto bits = static_cast<std::size_t>(code_bits(layout));
  return count / 8 * bits + count % 8 * bits / 8;
}

void untile_scales(std::span<const std::byte> tiled, std::int64_t rows, std::int64_t columns,
                   std::byte* out) {
  const std::int64_t tiles_across = (columns + kTileColumns - 1) / kTileColumns;
  const std::int64_t tiles_down = (rows + kTileRows - 1) / kTileRows;
  const auto bytes = static_cast<std::size_t>(tiles_across * tiles_down * kTileBytes);
  if (tiled.size() != bytes)
    throw Error(ErrorKind::shape,
                fmt::format("expected {} bytes of tiled scales for [{}, {}], got {}", bytes, rows,
                            columns, tiled.size()));
  if (columns == 0) return;
  for (std::int64_t r = 0; r < rows; ++r) {
    const std::byte* in = tiled.data() + r / kTileRows * tiles_across * kTileBytes + r % 32 * 16 +
                          r % kTileRows / 32 * kTileColumns;
    for (std::int64_t c = 0; c < columns; c += kTileColumns, in += kTileBytes)
      std::memcpy(out + r * columns + c, in,
                  static_cast<std::size_t>(std::min(kTileColumns, columns - c)));
  }
}

}  // namespace klein::quant
