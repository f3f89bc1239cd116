#pragma once

#include <cstddef>
#include <functional>
#include <span>

#include "klein/tensor/mlx.h"

namespace klein::ops::cuda {

/// Whether arrays can be made by upload(): work runs on an NVIDIA GPU.
bool uploads();

/// An array in the GPU's memory with a copy of bytes in the CPU's. Threads of their own copy,
/// several arrays at a time, through memory that the GPU reads by itself; `done` is called by one
/// of them when it has read the bytes, which have to stay until then.
///
/// Errors   Error(memory) when the GPU has no room
mx::array upload(std::span<const std::byte> bytes, const mx::Shape& shape, mx::Dtype dtype,
                 std::function<void()> done);

/// The same with a copy that is over when this returns: for what is small.
mx::array upload_at_once(std::span<const std::byte> bytes, const mx::Shape& shape, mx::Dtype dtype);

/// Copies the bytes of an array in row order that is computed to the CPU's memory.
///
/// Errors   Error(internal) when the copy failed
void download(const mx::array& a, std::span<std::byte> to);

/// Returns when all arrays hold what they should. Nothing may read them before.
///
/// Errors   Error(internal) when a copy failed
void finish_uploads();

}  // namespace klein::ops::cuda
