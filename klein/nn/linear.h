#pragma once

#include <optional>

#include "klein/tensor/mlx.h"

namespace klein::nn {

/// y = x @ weight^T + bias. Holds shapes only (lazy zeros) until a loader fills it.
///
/// Shapes   x [..., in] -> [..., out]
/// Dtype    that of x
struct Linear {
  Linear(int in, int out, bool with_bias = false);

  mx::array operator()(const mx::array& x) const;

  mx::array weight;               ///< [out, in]; may be narrower than x (bfloat16 under float32).
  std::optional<mx::array> bias;  ///< [out]
};

}  // namespace klein::nn
