#include "klein/weights/quantize.h"

#include "klein/nn/linear.h"

namespace klein::weights {
namespace {

using quant::Format;
using quant::ScaleType;

/// Largest number of E4M3.
constexpr float kMaxFp8 = 448.0f;

quant::Layout layout_of(const quant::Target& target) {
  switch (target.format) {
    case Format::mxfp8:
      return {.format = Format::mxfp8, .bits = 8, .group_size = 32, .scale_type = ScaleType::e8m0};
    case Format::mxfp4:
      return {.format = Format::mxfp4, .bits = 4, .group_size = 32, .scale_type = ScaleType::e8m0};
    case Format::nvfp4:
      return {.format = Format::nvfp4, .bits = 4, .group_size = 16, .scale_type = ScaleType::e4m3};
    case Format::fp8_e4m3:
      return {.format = Format::fp8_e4m3, .scale_type = ScaleType::float32};
    default:
      return {.format = Format::affine,
              .bits = target.bits,
              .group_size = 64,
              .scale_type = ScaleType::bfloat16};
  }
}

const char* mode_of(Format format) {
  switch (format) {
    case Format::mxfp8:
      return "mxfp8";
    case Format::mxfp4:
      return "mxfp4";
    case Format::nvfp4:
      return "nvfp4";
    default:
      return "affine";
  }
}

/// The largest number of each row becomes the largest of E4M3.
void fill_fp8(ops::PackedMatrix& packed, const mx::array& weight) {
  const auto wide = mx::astype(weight, mx::float32);
  const auto largest = mx::max(mx::abs(wide), 1, /*keepdims=*/true);
  const auto one = mx::array(1.0f);
  const auto scale = mx::where(largest > mx::array(0.0f), largest / mx::array(kMaxFp8), one);
  packed.codes = mx::to_fp8(wide / scale);
  packed.scales = scale;
}

}  // namespace

bool can_quantize(const quant::Target& target, int columns) {
  const int group = layout_of(target).group_size;
  return group == 0 || columns % group == 0;
}

std::uint64_t packed_bytes(const quant::Target& target, std::int64_t rows, std::int64_t columns) {
  const auto layout = layout_of(target);
  const auto scales = layout.group_size == 0 ? 1 : columns / layout.group_size;
  const int kinds = layout.format == Format::affine ? 2 : 1;  // with a bias beside each scale
  const auto row = quant::row_bytes(layout, columns) +
                   static_cast<std::size_t>(kinds * scales) * quant::scale_bytes(layout.scale_type);
  return static_cast<std::uint64_t>(rows) * row;
}

bool is_packed_as(const ops::PackedMatrix& matrix, const quant::Target& target) {
  if (matrix.layout.format != target.format) return false;
  if (target.format == Format::fp8_e4m3) return matrix.scales && !matrix.column_scales;
  return matrix.layout.bits == target.bits && ops::is_mlx_format(matrix);
}

ops::PackedMatrix quantize(const mx::array& weight, const quant::Target& target) {
  ops::PackedMatrix packed;
  packed.layout = layout_of(target);
  packed.rows = weight.shape(0);
  packed.columns = weight.shape(1);
  const auto narrow = mx::astype(weight, mx::bfloat16);
  if (target.format == Format::fp8_e4m3) {
    fill_fp8(packed, narrow);
  } else {
    const auto parts =
        mx::quantize(narrow, packed.layout.group_size, packed.layout.bits, mode_of(target.format));
    packed.codes = parts[0];
    packed.scales = parts[1];
    if (parts.size() > 2) packed.biases = parts[2];
  }
  return packed;
}

void Quantizer::on_weight(const std::string&, ops::Weight& weight) {
  const auto shape = ops::shape_of(weight);
  if (shape.size() != 2 || !can_quantize(target_, shape[1])) return;
  ops::PackedMatrix packed;
  if (const auto* old = std::get_if<ops::PackedMatrix>(&weight)) {
    if (is_packed_as(*old, target_)) return;
    packed = quantize(ops::unpack(*old, mx::bfloat16), target_);
  } else {
    packed = quantize(std::get<mx::array>(weight), target_);
  }
  std::vector<mx::array> arrays{packed.codes, *packed.scales};
  if (packed.biases) arrays.push_back(*packed.biases);
  mx::eval(arrays);  // now, so that the dense matrices are not all alive at once
  weight = std::move(packed);
}

/// A bias stays as it is.
void Quantizer::on_linear(const std::string& path, nn::Linear& layer) {
  on_weight(path + ".weight", layer.weight);
}

}  // namespace klein::weights
