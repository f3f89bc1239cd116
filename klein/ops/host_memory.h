#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "klein/tensor/mlx.h"

/// Copies between the CPU's memory and arrays. On an NVIDIA GPU each is one copy over the bus:
/// MLX's own way leads through memory that both sides share, whose pages move one by one when they
/// are first touched, which costs ten times as much for noise or a picture.
namespace klein::ops {

/// The bytes of an array in row order, computed first where it has to be.
std::vector<std::uint8_t> bytes_of(const mx::array& a);

/// An array with a copy of bytes, numbers of `dtype` in row order.
mx::array array_from(std::span<const std::byte> bytes, const mx::Shape& shape, mx::Dtype dtype);

/// An array of `shape` with a copy of all values.
template <typename T>
mx::array array_of(const std::vector<T>& values, const mx::Shape& shape) {
  return array_from(std::as_bytes(std::span(values)), shape, mx::TypeToDtype<T>());
}

}  // namespace klein::ops
