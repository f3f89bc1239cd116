#pragma once

#include <optional>
#include <vector>

#include "klein/nn/adapter.h"
#include "klein/ops/weight.h"
#include "klein/tensor/mlx.h"

namespace klein::nn {

/// y = x @ weight^T + bias + the sum of scale * matrix x of its adapters. Holds shapes only (lazy
/// zeros) until a loader fills it.
///
/// Shapes   x [..., in] -> [..., out]
/// Dtype    that of x; what each adapter adds rounds, its scaling rounds, and so does each sum
/// Source   peft tuners/lora/layer.py, Linear
struct Linear {
  Linear(int in, int out, bool with_bias = false);

  mx::array operator()(const mx::array& x) const;

  ops::Weight weight;             ///< [out, in]; may be narrower than x, or packed.
  std::optional<mx::array> bias;  ///< [out]
  std::vector<Adapter> adapters;  ///< Of LoRAs that are not merged; weights::AdapterSetter.
};

/// One row of a table for every id.
///
/// Shapes   ids [...] int32 -> [..., width]
/// Dtype    `dtype`, whatever the table is stored in
struct Embedding {
  Embedding(int count, int width);

  mx::array operator()(const mx::array& ids) const;

  ops::Weight weight;  ///< [count, width]; may be packed.
  mx::Dtype dtype = mx::float32;
};

}  // namespace klein::nn
