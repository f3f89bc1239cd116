#pragma once

#include <cuda.h>
#include <cuda_runtime.h>

namespace klein::ops::cuda {

/// Functions of the NVIDIA driver, which a build machine need not have.
struct Driver {
  decltype(&cuModuleLoadData) module_load_data;
  decltype(&cuModuleGetFunction) module_get_function;
  decltype(&cuFuncSetAttribute) func_set_attribute;
  decltype(&cuTensorMapEncodeTiled) tensor_map_encode_tiled;
};

/// Errors   Error(unsupported) when the driver lacks one of them
const Driver& driver();

/// Throws Error(internal), or Error(memory) when there is none left, unless the call succeeded.
/// `what` is what was wanted.
void check(cudaError_t result, const char* what);
void check(CUresult result, const char* what);

}  // namespace klein::ops::cuda
