#include "klein/ops/cuda/driver.h"

#include <fmt/format.h>

#include "klein/core/error.h"

namespace klein::ops::cuda {
namespace {

template <typename Function>
void find(const char* name, Function& function) {
  void* found = nullptr;
  cudaDriverEntryPointQueryResult state = cudaDriverEntryPointSymbolNotFound;
  const auto result =
      cudaGetDriverEntryPointByVersion(name, &found, 12000, cudaEnableDefault, &state);
  if (result != cudaSuccess || state != cudaDriverEntryPointSuccess)
    throw Error(
        ErrorKind::unsupported,
        fmt::format("expected an NVIDIA driver for CUDA 12 or newer, found none with {}", name),
        "Update the driver, or run with --device cpu.");
  function = reinterpret_cast<Function>(found);
}

}  // namespace

const Driver& driver() {
  static const Driver found = [] {
    Driver d{};
    find("cuModuleLoadData", d.module_load_data);
    find("cuModuleGetFunction", d.module_get_function);
    find("cuFuncSetAttribute", d.func_set_attribute);
    find("cuTensorMapEncodeTiled", d.tensor_map_encode_tiled);
    return d;
  }();
  return found;
}

void check(cudaError_t result, const char* what) {
  if (result == cudaSuccess) return;
  const auto kind = result == cudaErrorMemoryAllocation ? ErrorKind::memory : ErrorKind::internal;
  throw Error(kind, fmt::format("CUDA refused {}: {}", what, cudaGetErrorString(result)));
}

void check(CUresult result, const char* what) {
  if (result == CUDA_SUCCESS) return;
  throw Error(result == CUDA_ERROR_OUT_OF_MEMORY ? ErrorKind::memory : ErrorKind::internal,
              fmt::format("CUDA refused {}: error {}", what, static_cast<int>(result)));
}

}  // namespace klein::ops::cuda
