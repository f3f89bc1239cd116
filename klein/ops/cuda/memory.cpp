#include "klein/ops/cuda/memory.h"

#include <algorithm>
#include <cstdint>
#include <limits>
#include <mutex>

#include "mlx/backend/cuda/device.h"

#include "klein/ops/cuda/driver.h"
#include "klein/ops/cuda/native.h"
#include "klein/tensor/mlx.h"

namespace klein::ops::cuda {
namespace {

/// Gives memory back in a stream of its own: arrays end on any thread, when no work needs them.
cudaStream_t free_stream() {
  static const cudaStream_t stream = [] {
    cudaStream_t made = nullptr;
    check(cudaStreamCreateWithFlags(&made, cudaStreamNonBlocking), "a stream");
    return made;
  }();
  return stream;
}

/// Or else the pool goes back to the system whenever the CPU waits for the GPU.
void keep_pool() {
  static std::once_flag once;
  std::call_once(once, [] {
    cudaMemPool_t pool = nullptr;
    auto all = std::numeric_limits<std::uint64_t>::max();
    check(cudaDeviceGetDefaultMemPool(&pool, 0), "the GPU's memory");
    check(cudaMemPoolSetAttribute(pool, cudaMemPoolAttrReleaseThreshold, &all), "the GPU's memory");
  });
}

void give_back(mx::allocator::Buffer buffer) {
  auto* gone = static_cast<mx::cu::CudaBuffer*>(buffer.ptr());
  // MLX may have moved it to memory that the CPU reads too.
  cudaPointerAttributes is{};
  if (gone->device < 0 && cudaPointerGetAttributes(&is, gone->data) == cudaSuccess &&
      is.type == cudaMemoryTypeHost)
    cudaFreeHost(gone->data);
  else if (gone->device < 0)
    cudaFree(gone->data);
  else
    cudaFreeAsync(gone->data, free_stream());
  delete gone;
}

}  // namespace

mx::allocator::Data device_memory(std::size_t bytes, cudaStream_t stream) {
  keep_pool();
  void* data = nullptr;
  bytes = std::max<std::size_t>(bytes, 16);
  if (cudaMallocAsync(&data, bytes, stream) != cudaSuccess) {
    cudaGetLastError();
    cudaDeviceSynchronize();
    mx::clear_cache();
    check(cudaMallocAsync(&data, bytes, stream), "the GPU's memory");
  }
  return {mx::allocator::Buffer(new mx::cu::CudaBuffer{data, bytes, 0}), give_back};
}

std::uint64_t peak_bytes() {
  cudaMemPool_t pool = nullptr;
  std::uint64_t bytes = 0;
  check(cudaDeviceGetDefaultMemPool(&pool, 0), "the GPU's memory");
  check(cudaMemPoolGetAttribute(pool, cudaMemPoolAttrUsedMemHigh, &bytes), "the GPU's memory");
  return bytes;
}

void* data_of(const mx::allocator::Data& memory) {
  const auto buffer = memory.buffer();
  return static_cast<const mx::cu::CudaBuffer*>(buffer.ptr())->data;
}

}  // namespace klein::ops::cuda
