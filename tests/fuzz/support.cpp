#include "fuzz/support.h"

#include <algorithm>
#include <fstream>
#include <limits>
#include <memory>
#include <stdexcept>
#include <string>
#include <vector>

#include <stdlib.h>

#include "fuzz/targets.h"
#include "klein/core/error.h"
#include "klein/models/flux2/contents.h"
#include "klein/models/flux2/sizes.h"
#include "klein/models/qwen3/naming.h"

namespace klein::fuzz {
namespace {

namespace fs = std::filesystem;

constexpr std::int64_t kMaxDecoded = 1 << 14;  // more only costs time
constexpr std::int64_t kMaxSide = std::numeric_limits<int>::max();

/// Numbers of a shape whose sides were checked, or -1 when they do not fit 64 bits.
std::int64_t count_of(const weights::Shape& shape) {
  std::int64_t count = 1;
  for (const auto side : shape)
    if (__builtin_mul_overflow(count, side, &count)) return -1;
  return count;
}

/// The bytes alone, so that a sanitizer sees a read behind them.
std::unique_ptr<std::byte[]> alone(const weights::FileBytes& source) {
  if (source.bytes.empty()) return nullptr;
  auto copy = std::make_unique<std::byte[]>(source.bytes.size());
  std::ranges::copy(source.bytes, copy.get());
  return copy;
}

void check_scales(const weights::StoredTensor& t, const weights::FileBytes& scales,
                  std::int64_t rows) {
  if (scales.bytes.empty() || t.tiled_scales) return;
  const auto count = t.scales_per_row == 0 ? 1 : rows * t.scales_per_row;
  const auto each = quant::scale_bytes(t.layout->scale_type);
  expect(io::dtype_bytes(scales.dtype) == each, "scales are of the type that the layout names");
  expect(scales.bytes.size() == static_cast<std::size_t>(count) * each,
         "there are as many scales as the rows need");
}

void decode(const weights::StoredTensor& t, std::int64_t rows, std::int64_t columns) {
  const auto codes = alone(t.numbers), biases = alone(t.biases);
  auto scales = alone(t.scales);
  if (t.tiled_scales) {
    auto in_rows = std::make_unique<std::byte[]>(static_cast<std::size_t>(rows * t.scales_per_row));
    quant::untile_scales(t.scales.bytes, rows, t.scales_per_row, in_rows.get());
    scales = std::move(in_rows);
  }
  const quant::PackedView view{.layout = *t.layout,
                               .rows = rows,
                               .columns = columns,
                               .codes = codes.get(),
                               .scales = scales.get(),
                               .biases = biases.get(),
                               .scales_per_row = t.scales_per_row,
                               .global_scale = t.global_scale};
  const auto count = static_cast<std::size_t>(rows * columns);
  const auto floats = std::make_unique<float[]>(count);
  quant::decode_rows(view, 0, rows, floats.get());
  const auto halves = std::make_unique<std::uint16_t[]>(count);
  quant::decode_rows_bf16(view, 0, rows, halves.get());
}

void check_packed(const weights::StoredTensor& t) {
  const auto rows = t.shape.size() < 2 ? 1 : t.shape.front();
  const auto columns = rows == 0 ? 0 : count_of(t.shape) / rows;
  expect(columns <= kMaxSide, "columns fit an int");
  quant::expect_decodable(*t.layout, columns);
  if (static_cast<std::uint64_t>(rows) * quant::row_bytes(*t.layout, columns) !=
      t.numbers.bytes.size())
    throw Error(ErrorKind::shape, "expected as many codes as the shape says");
  check_scales(t, t.scales, rows);
  check_scales(t, t.biases, rows);
  if (!t.column_scales.bytes.empty()) {
    const auto dtype = t.column_scales.dtype;
    expect(
        dtype == io::Dtype::float32 || dtype == io::Dtype::float16 || dtype == io::Dtype::bfloat16,
        "scales of columns are floats");
    expect(
        t.column_scales.bytes.size() == static_cast<std::size_t>(columns) * io::dtype_bytes(dtype),
        "there are as many scales as columns");
  }
  if (rows * columns <= kMaxDecoded) decode(t, rows, columns);
}

}  // namespace

void expect(bool kept, const char* promise) {
  if (!kept) throw std::logic_error(std::string("broken promise: ") + promise);
}

bool run(const Target& target, std::string_view input) {
  try {
    target.run(input);
    return true;
  } catch (const Error& error) {
    if (error.kind() == ErrorKind::internal) throw std::logic_error(error.what());
    return false;
  }
}

Folder::Folder() {
  std::string pattern = (fs::temp_directory_path() / "klein-fuzz-XXXXXX").string();
  expect(::mkdtemp(pattern.data()) != nullptr, "a temporary folder can be made");
  path_ = pattern;
}

Folder::~Folder() {
  std::error_code ignored;
  fs::remove_all(path_, ignored);
}

fs::path Folder::write(std::string_view name, std::string_view content) const {
  std::ofstream out(path_ / name, std::ios::binary | std::ios::trunc);
  out.write(content.data(), static_cast<std::streamsize>(content.size()));
  out.close();
  expect(out.good(), "a temporary file can be written");
  return path_ / name;
}

void touch(std::span<const std::byte> bytes) {
  if (bytes.empty()) return;
  volatile auto sink = bytes.front();
  sink = bytes.back();
  static_cast<void>(sink);
}

void check_stored(const weights::WeightFiles& files) {
  for (const auto& t : files.tensors) {
    for (const auto side : t.shape) expect(side >= 0 && side <= kMaxSide, "sides fit an int");
    const auto count = count_of(t.shape);
    expect(count >= 0, "the numbers of a tensor can be counted");
    touch(t.numbers.bytes);
    if (t.layout)
      check_packed(t);
    else
      expect(t.numbers.bytes.size() ==
                 static_cast<std::size_t>(count) * io::dtype_bytes(t.numbers.dtype),
             "there are as many numbers as the shape says");
  }
}

void find_networks(const weights::Shapes& tensors) {
  for (const auto& part : flux2::find_parts(tensors, "x")) {
    const auto shapes = weights::renamed_shapes(flux2::renaming(part, "x"), part.tensors, "x");
    switch (part.kind) {
      case flux2::PartKind::transformer: {
        const auto config = flux2::transformer_config_from(shapes, "x");
        expect(config.dim() > 0 && config.mlp_dim() > 0, "a transformer has a width");
        break;
      }
      case flux2::PartKind::text_encoder:
        expect(qwen3::config_from(shapes, "x").num_attention_heads > 0, "an encoder has heads");
        break;
      case flux2::PartKind::vae:
        expect(flux2::vae_config_from(shapes, "x").scale() > 0, "an autoencoder has a scale");
        break;
    }
  }
}

}  // namespace klein::fuzz
