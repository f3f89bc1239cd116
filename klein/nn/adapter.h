#pragma once

#include <variant>

#include "klein/tensor/mlx.h"

namespace klein::nn {

/// b a.
struct LowRank {
  mx::array a;  ///< [rank, in]
  mx::array b;  ///< [out, rank]
};

/// The elements of two such matrices multiplied with each other (LoHa).
struct HadamardProduct {
  LowRank first, second;
};

/// Every element of w1 times the whole of w2 (LoKr), or some of the rows of that.
struct KroneckerProduct {
  mx::array w1, w2;
  int skipped = 0;  ///< Rows left out at the beginning,
  int cut = 0;      ///< and at the end.
};

/// A matrix [out, in] as the factors that are kept of it.
using AdapterMatrix = std::variant<LowRank, HadamardProduct, KroneckerProduct, mx::array>;

/// What is added to a linear layer while it runs: scale * matrix x.
struct Adapter {
  AdapterMatrix matrix;
  float scale = 1.0f;
};

/// matrix x, without the matrix itself where that is possible: two small products for a LowRank and
/// for a KroneckerProduct. The matrix of a HadamardProduct is made in float32, used and gone.
///
/// Shapes   x [..., in] -> [..., out]
/// Dtype    that of x, to which every product and the matrix of a HadamardProduct round
/// Source   peft tuners: lora/layer.py, loha/layer.py; a LoKr there is made a matrix first
mx::array apply(const AdapterMatrix& matrix, const mx::array& x);

}  // namespace klein::nn
