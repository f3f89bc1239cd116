#pragma once

#include <cstdint>
#include <string>

#include "klein/core/options.h"
#include "klein/tensor/mlx.h"

namespace klein {

/// Makes `choice` the device of all work that is built from now on; `automatic` takes a GPU if
/// there is one.
///
/// Errors   Error(unsupported) when a GPU is asked for and this build or machine has none
void use_device(DeviceChoice choice);

/// "gpu" or "cpu": where work runs now.
std::string device_name();

/// The most memory used so far: of the GPU's own where work runs there, else of this process with
/// the pages of mapped files that it touched.
std::uint64_t peak_memory_bytes();

/// The memory that could still be taken without swapping: of the GPU's own where work runs there.
std::uint64_t available_memory_bytes();

/// bfloat16 or float32 as MLX names them.
mx::Dtype mlx_dtype(Precision precision);

}  // namespace klein
