#include "klein/weights/tensor_map.h"

#include <cstring>
#include <memory>
#include <optional>

#include <fmt/format.h>

#include "mlx/allocator.h"

#include "klein/core/error.h"

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

mx::array array_from(const io::SafetensorsFile& file, const io::TensorInfo& tensor,
                     mx::Dtype dtype) {
  mx::Shape shape;
  for (const auto extent : tensor.shape) shape.push_back(static_cast<int>(extent));
  const auto bytes = file.bytes(tensor);
  auto* address = const_cast<std::byte*>(bytes.data());
  if (bytes.empty()) return mx::zeros(shape, dtype);

  // The header in front of the data is at least 8 bytes long, so the address before is mapped too.
  const bool aligned = reinterpret_cast<std::uintptr_t>(address) % mx::size_of(dtype) == 0;
  if (allocator_takes_plain_addresses() && aligned) {
    const mx::allocator::Buffer buffer(address - sizeof(size_t));
    auto keep_file = [mapped = file.file()](mx::allocator::Buffer) {};
    return mx::array(mx::allocator::Data(buffer, keep_file), shape, dtype);
  }
  auto owned = mx::allocator::malloc(bytes.size());
  std::memcpy(owned.buffer().raw_ptr(), bytes.data(), bytes.size());
  return mx::array(std::move(owned), shape, dtype);
}

}  // namespace

TensorMap tensor_map(const io::ShardedWeights& files, const NameFilter& leave_out) {
  TensorMap tensors;
  std::string complaints;
  for (const auto& file : files.files()) {
    for (const auto& tensor : file.tensors()) {
      if (leave_out && leave_out(tensor.name)) continue;
      const auto dtype = mlx_dtype_of(tensor.dtype);
      if (!dtype || !mx::issubdtype(*dtype, mx::floating))
        complaints += fmt::format("\n  {} is {}", tensor.name, io::dtype_name(tensor.dtype));
      else
        tensors.insert_or_assign(tensor.name, array_from(file, tensor, *dtype));
    }
  }
  if (!complaints.empty())
    throw Error(ErrorKind::unsupported,
                fmt::format("expected weights of type F32, F16 or BF16 in {}, got:{}",
                            files.path().string(), complaints));
  return tensors;
}

TensorMap load_tensors(const io::SafetensorsFile& file) {
  TensorMap tensors;
  for (const auto& tensor : file.tensors()) {
    const auto dtype = mlx_dtype_of(tensor.dtype);
    if (!dtype)
      throw Error(ErrorKind::unsupported,
                  fmt::format("expected a tensor type that MLX has, got {} for {} in {}",
                              io::dtype_name(tensor.dtype), tensor.name, file.path().string()));
    tensors.insert_or_assign(tensor.name, array_from(file, tensor, *dtype));
  }
  return tensors;
}

}  // namespace klein::weights
