#include "klein/ops/backend.h"

#include "klein/core/error.h"
#include "klein/ops/cuda/native.h"
#include "klein/tensor/mlx.h"

namespace klein::ops {
namespace {

thread_local Backend chosen = Backend::native;
thread_local bool chosen_fp8 = false;

}  // namespace

void set_backend(Backend backend) noexcept {
  chosen = backend;
}

Backend backend() noexcept {
  return chosen;
}

void use_math(MathMode mode) {
  if (mode == MathMode::fp8 && !(mx::default_device() == mx::Device::gpu && cuda::has_fp8()))
    throw Error(
        ErrorKind::unsupported,
        "expected a GPU with 8-bit products (NVIDIA Ada, Hopper or newer) for the precision fp8",
        "Leave --precision away, or pack the weights with -q fp8.");
  const bool on_gpu = mx::default_device() == mx::Device::gpu;
  set_backend(on_gpu && mode == MathMode::exact ? Backend::portable : Backend::native);
  chosen_fp8 = mode == MathMode::fp8;
}

bool has_own_gpu_memory() {
  return mx::default_device() == mx::Device::gpu && cuda::available();
}

std::uint64_t gpu_peak_bytes() {
  return has_own_gpu_memory() ? cuda::peak_bytes() : 0;
}

bool fp8_products() noexcept {
  return chosen_fp8;
}

bool has_cpu_kernels() noexcept {
#ifdef KLEIN_CPU_KERNELS
  return true;
#else
  return false;
#endif
}

}  // namespace klein::ops
