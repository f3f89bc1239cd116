#pragma once

#include <functional>
#include <string>
#include <unordered_map>

#include "klein/io/safetensors.h"
#include "klein/tensor/mlx.h"

namespace klein::weights {

using TensorMap = std::unordered_map<std::string, mx::array>;

/// Whether the tensor of that name is left out.
using NameFilter = std::function<bool(const std::string& name)>;

/// The tensors of a component as arrays that share the pages of its mapped files.
///
/// Nothing is read until an array is used, and nothing is copied on the CPU; with a GPU build of
/// MLX each tensor is copied to memory that the GPU can read. Open the files with copy_on_write:
/// MLX may reuse the memory of an array that nobody else holds.
///
/// Dtype    as in the file: float32, float16 or bfloat16
/// Errors   Error(unsupported) naming every tensor of another type
TensorMap tensor_map(const io::ShardedWeights& files, const NameFilter& leave_out = {});

/// One file's tensors, whole; integers allowed.
///
/// Errors   Error(unsupported) for a type that MLX lacks
TensorMap load_tensors(const io::SafetensorsFile& file);

}  // namespace klein::weights
