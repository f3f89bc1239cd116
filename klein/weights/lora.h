#pragma once

#include <filesystem>
#include <map>
#include <string>
#include <utility>
#include <vector>

#include "klein/nn/adapter.h"
#include "klein/tensor/mlx.h"
#include "klein/weights/tensor_map.h"

namespace klein::weights {

using nn::HadamardProduct;
using nn::KroneckerProduct;
using nn::LowRank;

/// What a LoRA adds to a weight, before its scale.
using LoraMatrix = nn::AdapterMatrix;

/// [out, in] of the matrix that the factors stand for.
std::pair<std::int64_t, std::int64_t> size_of(const LoraMatrix& matrix);

/// The matrix itself, computed when it is needed.
///
/// Shapes   -> [out, in]
/// Dtype    float32
mx::array product(const LoraMatrix& matrix);

/// Rows [begin, end) of the matrix, in factors as it was: for a LowRank rows of b, with the same a.
LoraMatrix rows_of(const LoraMatrix& matrix, int begin, int end);

/// The matrix with the second half of its rows first; of a KroneckerProduct whose w1 has an odd
/// number of rows the matrix itself.
LoraMatrix with_halves_swapped(const LoraMatrix& matrix);

/// The factors as a layer that computes in `compute_dtype` takes them, evaluated: on the CPU
/// bfloat16 stays. Those of a HadamardProduct stay as they are.
LoraMatrix in_dtype(const LoraMatrix& matrix, mx::Dtype compute_dtype);

/// One layer of a LoRA.
struct LoraLayer {
  LoraMatrix matrix;
  double scale = 1.0;  ///< alpha / rank, or 1 where no alpha is known.
  int rank = 0;        ///< 0 for a LoKr of two whole factors.
};

/// A LoRA as its file spells it.
struct LoraFile {
  std::filesystem::path path;
  std::map<std::string, LoraLayer> layers;  ///< By their names in the file, prefixes included.
  std::vector<std::string> unused;          ///< Names of tensors that are no part of any layer.
};

/// Reads a LoRA, LoKr or LoHa of any program that writes safetensors: `lora_A`/`lora_B`, with or
/// without the name of an adapter, `lora_down`/`lora_up`, `lora.down`/`lora.up`, `lokr_*`,
/// `hada_*`, `alpha`; alphas that PEFT keeps outside of the tensors as LoraConfig says.
///
/// Dtype    as in the file: float32, float16 or bfloat16
/// Errors   as io::SafetensorsFile and LoraConfig; Error(format) listing every incomplete layer,
///          every tensor whose shape is impossible and every one with a NaN or an infinity;
///          Error(unsupported) for a DoRA and for tensors that no linear layer has
LoraFile read_lora_file(const std::filesystem::path& path);

/// The same from the file's header alone: zeros of the right sizes, and scales that mean nothing.
/// Errors as read_lora_file, which also looks at the numbers.
LoraFile read_lora_header(const std::filesystem::path& path);

/// A layer under the model's name.
struct LoraDelta {
  std::string weight;  ///< "transformer_blocks.0.attn.to_q.weight"
  LoraMatrix matrix;   ///< As large as the weight.
  double scale = 1.0;
};

/// W + the sum of scale * matrix, for every weight that is in the map; computed when it is needed.
///
/// Dtype    added up in float32, then rounded once to the weight's own; a packed weight becomes
///          bfloat16
void merge(WeightMap& weights, const std::vector<LoraDelta>& deltas);

}  // namespace klein::weights
