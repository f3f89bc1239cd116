#pragma once

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

/// bfloat16 or float32 as MLX names them.
mx::Dtype mlx_dtype(Precision precision);

}  // namespace klein
