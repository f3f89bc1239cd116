#pragma once

#include <cstddef>

#include <cuda_runtime.h>

#include "mlx/allocator.h"

namespace klein::ops::cuda {

/// Memory of the GPU as MLX takes it for an array, from the pool of the driver that MLX uses too.
/// It may be used by what follows in `stream`, and goes back when the last array that shares it
/// ends.
///
/// Errors   Error(memory) when there is no room, even without what MLX keeps of freed memory
mlx::core::allocator::Data device_memory(std::size_t bytes, cudaStream_t stream);

/// Where it lies.
void* data_of(const mlx::core::allocator::Data& memory);

}  // namespace klein::ops::cuda
