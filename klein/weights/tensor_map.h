#pragma once

#include <string>
#include <unordered_map>

#include "klein/io/safetensors.h"
#include "klein/ops/weight.h"
#include "klein/tensor/mlx.h"
#include "klein/weights/renaming.h"
#include "klein/weights/stored_tensor.h"

namespace klein::weights {

using TensorMap = std::unordered_map<std::string, mx::array>;
using WeightMap = std::unordered_map<std::string, ops::Weight>;

/// The weights of a part under the model's names, as arrays that share the pages of its files.
///
/// Nothing is read until an array is used, and nothing is copied on the CPU but tiled scales and
/// rows that change places, and the pages are given back when the last array that shares them goes;
/// with a GPU build of MLX each tensor is copied to memory that the GPU
/// can read, and what MLX has no operations for is unpacked to bfloat16. Open the files with
/// copy_on_write: MLX may reuse the memory of an array that nobody else holds.
///
/// Dtype    as in the file: float32, float16 or bfloat16, or packed
/// Errors   Error(unsupported) naming every tensor of another type
WeightMap weight_map(const WeightFiles& files, const Renaming& renaming);

/// The shapes of the weights, by name.
Shapes shapes_of(const WeightMap& weights);

/// One file's tensors, whole; integers allowed.
///
/// Errors   Error(unsupported) for a type that MLX lacks
TensorMap load_tensors(const io::SafetensorsFile& file);

}  // namespace klein::weights
