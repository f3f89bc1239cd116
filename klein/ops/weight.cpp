#include "klein/ops/weight.h"

#include <string>

#include <fmt/format.h>

#include "klein/core/error.h"
#include "klein/ops/cpu/native.h"
#include "klein/ops/cuda/native.h"
#include "klein/ops/dispatch.h"
#include "klein/ops/portable.h"
#include "klein/tensor/check.h"

namespace klein::ops {
namespace {

/// Applies `change` to every array that has a row for each row of the matrix.
template <typename Change>
PackedMatrix with_rows(const PackedMatrix& matrix, int rows, const Change& change) {
  PackedMatrix changed = matrix;
  changed.rows = rows;
  changed.codes = change(matrix.codes);
  const bool per_row = matrix.scales && matrix.scales->shape(0) == matrix.rows;
  if (per_row) changed.scales = change(*matrix.scales);
  if (per_row && matrix.biases) changed.biases = change(*matrix.biases);
  return changed;
}

}  // namespace

quant::PackedView PackedMatrix::view() const {
  const auto bytes = [](const std::optional<mx::array>& a) {
    return a ? a->data<std::byte>() : nullptr;
  };
  const bool one_scale = scales && scales->size() == 1;
  return {.layout = layout,
          .rows = rows,
          .columns = columns,
          .codes = codes.data<std::byte>(),
          .scales = bytes(scales),
          .biases = bytes(biases),
          .scales_per_row = scales && !one_scale ? scales->shape(1) : 0,
          .global_scale = global_scale,
          .column_scales = column_scales ? column_scales->data<float>() : nullptr};
}

std::size_t PackedMatrix::nbytes() const {
  std::size_t total = codes.nbytes();
  for (const auto* a : {&scales, &biases, &column_scales})
    if (*a) total += (*a)->nbytes();
  return total;
}

std::string describe(const Weight& weight) {
  if (const auto* dense = std::get_if<mx::array>(&weight)) return klein::describe(*dense);
  const auto& packed = std::get<PackedMatrix>(weight);
  return fmt::format("[{}, {}] {}", packed.rows, packed.columns,
                     quant::format_name(packed.layout.format));
}

mx::Shape shape_of(const Weight& weight) {
  if (const auto* dense = std::get_if<mx::array>(&weight)) return dense->shape();
  const auto& packed = std::get<PackedMatrix>(weight);
  return {packed.rows, packed.columns};
}

bool is_mlx_format(const PackedMatrix& m) {
  switch (m.layout.format) {
    case quant::Format::affine:
    case quant::Format::mxfp4:
    case quant::Format::mxfp8:
    case quant::Format::nvfp4:
      return m.codes.dtype() == mx::uint32 && !m.layout.high_nibble_first &&
             m.global_scale == 1.0f && !m.column_scales;
    default:
      return false;
  }
}

bool is_gpu_format(const PackedMatrix& m) {
  return cuda::available() && m.layout.format == quant::Format::fp8_e4m3 && m.scales &&
         m.scales->dtype() == mx::float32 && m.scales->shape() == mx::Shape{m.rows, 1} &&
         !m.column_scales && m.columns % 8 == 0;
}

mx::array unpack(const PackedMatrix& matrix, mx::Dtype dtype) {
  if (use_cuda_kernels({dtype})) return cuda::unpack(matrix, dtype);
  if (use_cpu_kernels({dtype})) return native::unpack(matrix, dtype);
  return portable::unpack(matrix, dtype);
}

mx::array take_rows(const Weight& weight, const mx::array& ids, mx::Dtype dtype) {
  if (const auto* dense = std::get_if<mx::array>(&weight)) {
    if (use_cuda_kernels({dense->dtype(), dtype})) return cuda::take_rows(*dense, ids);
    return mx::astype(mx::take(*dense, ids, 0), dtype);
  }
  const auto& packed = std::get<PackedMatrix>(weight);
  const auto flat = mx::flatten(ids);
  const auto taken =
      with_rows(packed, flat.shape(0), [&](const mx::array& a) { return mx::take(a, flat, 0); });
  auto shape = ids.shape();
  shape.push_back(packed.columns);
  return mx::reshape(unpack(taken, dtype), shape);
}

Weight slice_rows(const Weight& weight, int begin, int end) {
  const auto rows = [&](const mx::array& a) {
    mx::Shape from(a.ndim(), 0), to = a.shape();
    from[0] = begin;
    to[0] = end;
    return mx::slice(a, from, to);
  };
  if (const auto* dense = std::get_if<mx::array>(&weight)) return rows(*dense);
  return with_rows(std::get<PackedMatrix>(weight), end - begin, rows);
}

Weight concatenate_rows(const Weight& first, const Weight& second) {
  if (const auto* dense = std::get_if<mx::array>(&first))
    return mx::concatenate({*dense, std::get<mx::array>(second)}, 0);
  const auto &a = std::get<PackedMatrix>(first), &b = std::get<PackedMatrix>(second);
  if (a.layout != b.layout || a.columns != b.columns)
    throw Error(ErrorKind::shape, fmt::format("expected two matrices of one format, got {} and {}",
                                              describe(first), describe(second)));
  PackedMatrix joined = a;
  joined.rows = a.rows + b.rows;
  joined.codes = mx::concatenate({a.codes, b.codes}, 0);
  const bool per_row = a.scales && a.scales->shape(0) == a.rows;
  if (per_row) joined.scales = mx::concatenate({*a.scales, *b.scales}, 0);
  if (per_row && a.biases) joined.biases = mx::concatenate({*a.biases, *b.biases}, 0);
  return joined;
}

}  // namespace klein::ops
