#pragma once

#include <optional>

#include "klein/ops/weight.h"
#include "klein/tensor/mlx.h"

namespace klein::nn {

/// y = x @ weight^T + bias. Holds shapes only (lazy zeros) until a loader fills it.
///
/// Shapes   x [..., in] -> [..., out]
/// Dtype    that of x
struct Linear {
  Linear(int in, int out, bool with_bias = false);

  mx::array operator()(const mx::array& x) const;

  ops::Weight weight;             ///< [out, in]; may be narrower than x, or packed.
  std::optional<mx::array> bias;  ///< [out]
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
