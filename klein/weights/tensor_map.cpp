#include "klein/weights/tensor_map.h"

#include <algorithm>
#include <memory>
#include <optional>
#include <vector>

#include <fmt/format.h>

#include "mlx/allocator.h"

#include "klein/core/error.h"
#include "klein/ops/cuda/upload.h"
#include "klein/ops/host_memory.h"

namespace klein::weights {
namespace {

std::optional<mx::Dtype> mlx_dtype_of(io::Dtype dtype) {
  switch (dtype) {
    case io::Dtype::float32:
      return mx::float32;
    case io::Dtype::float16:
      return mx::float16;
    case io::Dtype::bfloat16:
      return mx::bfloat16;
    case io::Dtype::boolean:
      return mx::bool_;
    case io::Dtype::uint8:
      return mx::uint8;
    case io::Dtype::int8:
      return mx::int8;
    case io::Dtype::int16:
      return mx::int16;
    case io::Dtype::uint16:
      return mx::uint16;
    case io::Dtype::int32:
      return mx::int32;
    case io::Dtype::uint32:
      return mx::uint32;
    case io::Dtype::int64:
      return mx::int64;
    case io::Dtype::uint64:
      return mx::uint64;
    default:
      return std::nullopt;
  }
}

/// MLX's CPU allocator keeps a size in front of the bytes and knows a buffer by the address of that
/// size; the GPU allocators do not. Where this holds, any address can be dressed up as a buffer.
bool allocator_takes_plain_addresses() {
  static const bool plain = [] {
    auto buffer = mx::allocator::allocator().malloc(64);
    const bool behind_a_size =
        static_cast<char*>(buffer.raw_ptr()) == static_cast<char*>(buffer.ptr()) + sizeof(size_t);
    mx::allocator::allocator().free(buffer);
    return behind_a_size && !mx::is_available(mx::Device::gpu);
  }();
  return plain;
}

mx::array array_from(const FileBytes& source, const Shape& extents, mx::Dtype dtype) {
  mx::Shape shape;
  for (const auto extent : extents) shape.push_back(static_cast<int>(extent));
  auto* address = const_cast<std::byte*>(source.bytes.data());
  if (source.bytes.empty()) return mx::zeros(shape, dtype);

  // The header in front of the data is at least 8 bytes long, so the address before is mapped too.
  const bool aligned = reinterpret_cast<std::uintptr_t>(address) % mx::size_of(dtype) == 0;
  if (allocator_takes_plain_addresses() && aligned) {
    const mx::allocator::Buffer buffer(address - sizeof(size_t));
    // The pages go with the last array that reads them: MLX writes only to memory of its own.
    auto give_back = [source](mx::allocator::Buffer) { advise(source, io::Advice::dont_need); };
    return mx::array(mx::allocator::Data(buffer, give_back), shape, dtype);
  }
  if (ops::cuda::uploads())
    return ops::cuda::upload(source.bytes, shape, dtype,
                             [source] { advise(source, io::Advice::dont_need); });
  auto owned = ops::array_from(source.bytes, shape, dtype);
  advise(source, io::Advice::dont_need);
  return owned;
}

mx::Dtype dtype_of(quant::ScaleType type) {
  switch (type) {
    case quant::ScaleType::float32:
      return mx::float32;
    case quant::ScaleType::float16:
      return mx::float16;
    case quant::ScaleType::bfloat16:
      return mx::bfloat16;
    default:
      return mx::uint8;
  }
}

/// Columns of codes: 32-bit words where MLX has the format, else bytes.
mx::array codes_of(const StoredTensor& t, std::int64_t rows) {
  const bool words = t.numbers.dtype == io::Dtype::uint32;
  const auto row_bytes =
      static_cast<std::int64_t>(t.numbers.bytes.size()) / std::max<std::int64_t>(rows, 1);
  return words ? array_from(t.numbers, {rows, row_bytes / 4}, mx::uint32)
               : array_from(t.numbers, {rows, row_bytes}, mx::uint8);
}

mx::array scales_of(const StoredTensor& t, std::int64_t rows) {
  const auto dtype = dtype_of(t.layout->scale_type);
  if (!t.tiled_scales)
    return array_from(t.scales, t.scales_per_row == 0 ? Shape{1, 1} : Shape{rows, t.scales_per_row},
                      dtype);
  std::vector<std::byte> in_rows(static_cast<std::size_t>(rows * t.scales_per_row));
  quant::untile_scales(t.scales.bytes, rows, t.scales_per_row, in_rows.data());
  return mx::array(reinterpret_cast<const std::uint8_t*>(in_rows.data()),
                   {static_cast<int>(rows), static_cast<int>(t.scales_per_row)}, dtype);
}

/// Any tensor of packed numbers as a matrix; one that is none has its first axis as rows.
ops::PackedMatrix packed_from(const StoredTensor& t) {
  std::int64_t count = 1;
  for (const auto extent : t.shape) count *= extent;
  const auto rows = t.shape.size() < 2 ? 1 : t.shape.front();
  ops::PackedMatrix matrix;
  quant::expect_decodable(*t.layout, rows == 0 ? 0 : count / rows);
  const auto needed =
      static_cast<std::uint64_t>(rows) * quant::row_bytes(*t.layout, rows == 0 ? 0 : count / rows);
  if (needed != t.numbers.bytes.size())
    throw Error(ErrorKind::shape, fmt::format("expected {} bytes of {} for {}, got {}", needed,
                                              t.encoding(), t.name, t.numbers.bytes.size()));
  matrix.layout = *t.layout;
  matrix.rows = static_cast<int>(rows);
  matrix.columns = static_cast<int>(rows == 0 ? 0 : count / rows);
  matrix.codes = codes_of(t, rows);
  if (!t.scales.bytes.empty()) matrix.scales = scales_of(t, rows);
  if (!t.biases.bytes.empty())
    matrix.biases = array_from(t.biases, {rows, t.scales_per_row}, dtype_of(t.layout->scale_type));
  if (!t.column_scales.bytes.empty())
    matrix.column_scales = mx::astype(
        array_from(t.column_scales, {matrix.columns}, *mlx_dtype_of(t.column_scales.dtype)),
        mx::float32);
  matrix.global_scale = t.global_scale;
  return matrix;
}

/// What stays packed: matrices, in a format that runs where the work does.
bool stays_packed(const StoredTensor& t, const ops::PackedMatrix& matrix) {
  return t.shape.size() == 2 && (mx::default_device() == mx::Device::cpu ||
                                 ops::is_mlx_format(matrix) || ops::is_gpu_format(matrix));
}

ops::Weight weight_from(const StoredTensor& t) {
  if (!t.layout) return array_from(t.numbers, t.shape, *mlx_dtype_of(t.numbers.dtype));
  const auto matrix = packed_from(t);
  if (stays_packed(t, matrix)) return matrix;
  ops::cuda::finish_uploads();
  mx::Shape shape;
  for (const auto extent : t.shape) shape.push_back(static_cast<int>(extent));
  auto dense = mx::reshape(ops::unpack(matrix, mx::bfloat16), shape);
  mx::eval(dense);
  return dense;
}

mx::array dense_from(const mx::array& whole, const Origin& origin) {
  auto a = whole;
  if (origin.squeeze && a.ndim() == 4) a = mx::squeeze(a, {2, 3});
  if (origin.layout == ConvLayout::channels_last && a.ndim() == 4)
    a = mx::transpose(a, {0, 3, 1, 2});
  return a;
}

ops::Weight weight_from(const ops::Weight& whole, const Origin& origin) {
  auto weight = whole;
  if (const auto* dense = std::get_if<mx::array>(&whole)) weight = dense_from(*dense, origin);
  const int rows = shape_of(weight).empty() ? 0 : shape_of(weight)[0];
  if (origin.parts > 1)
    weight = ops::slice_rows(weight, rows / origin.parts * origin.part,
                             rows / origin.parts * (origin.part + 1));
  if (!origin.swap_halves) return weight;
  return ops::concatenate_rows(ops::slice_rows(weight, rows / 2, rows),
                               ops::slice_rows(weight, 0, rows / 2));
}

bool is_loadable(const StoredTensor& t) {
  if (t.layout) return true;
  const auto dtype = mlx_dtype_of(t.numbers.dtype);
  return dtype && mx::issubdtype(*dtype, mx::floating);
}

/// Arrays that are still being copied must not end before their copies do, whatever is thrown.
struct UploadsEnd {
  ~UploadsEnd() {
    try {
      ops::cuda::finish_uploads();
    } catch (const Error&) {
      // What went wrong first is on its way.
    }
  }
};

}  // namespace

WeightMap weight_map(const WeightFiles& files, const Renaming& renaming) {
  std::unordered_map<std::string, std::vector<const std::pair<const std::string, Origin>*>> wanted;
  for (const auto& entry : renaming.origins) wanted[entry.second.source].push_back(&entry);

  WeightMap weights;
  const UploadsEnd at_the_end;
  std::string complaints;
  for (const auto& tensor : files.tensors) {
    const auto uses = wanted.find(tensor.name);
    if (uses == wanted.end()) continue;
    if (!is_loadable(tensor)) {
      complaints += fmt::format("\n  {} is {}", tensor.name, tensor.encoding());
      continue;
    }
    const auto whole = weight_from(tensor);
    for (const auto* use : uses->second)
      weights.insert_or_assign(use->first, weight_from(whole, use->second));
  }
  ops::cuda::finish_uploads();
  if (!complaints.empty())
    throw Error(ErrorKind::unsupported, fmt::format("expected floating-point weights in {}, got:{}",
                                                    files.path.string(), complaints));
  return weights;
}

Shapes shapes_of(const WeightMap& weights) {
  Shapes shapes;
  for (const auto& [name, weight] : weights) {
    const auto shape = ops::shape_of(weight);
    shapes.emplace(name, Shape(shape.begin(), shape.end()));
  }
  return shapes;
}

TensorMap load_tensors(const io::SafetensorsFile& file) {
  TensorMap tensors;
  const UploadsEnd at_the_end;
  for (const auto& tensor : file.tensors()) {
    const auto dtype = mlx_dtype_of(tensor.dtype);
    if (!dtype)
      throw Error(ErrorKind::unsupported,
                  fmt::format("expected a tensor type that MLX has, got {} for {} in {}",
                              io::dtype_name(tensor.dtype), tensor.name, file.path().string()));
    tensors.insert_or_assign(
        tensor.name,
        array_from({file.file(), file.bytes(tensor), tensor.dtype}, tensor.shape, *dtype));
  }
  ops::cuda::finish_uploads();
  return tensors;
}

}  // namespace klein::weights
