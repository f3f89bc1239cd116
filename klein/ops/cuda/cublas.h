#pragma once

#include "klein/ops/cuda/kernel.h"

namespace klein::ops::cuda {

/// y [M, N] = x [M, K] W [N, K]^T + bias, rows behind each other; y and bias are bfloat16.
struct ProductShape {
  int m = 0;
  int n = 0;
  int k = 0;
  bool with_bias = false;
  bool fp8 = false;  ///< x and W are e4m3 with a float32 scale for every row, else bfloat16.

  friend auto operator<=>(const ProductShape&, const ProductShape&) = default;
};

struct ProductData {
  const void* x = nullptr;
  const void* weight = nullptr;
  const void* bias = nullptr;
  void* y = nullptr;
  const void* x_scales = nullptr;
  const void* weight_scales = nullptr;
};

/// Whether cuBLASLt can do it: rows on 16 bytes.
bool fits_product(const ProductShape& shape);

/// The first call for a shape tries the algorithms that cuBLASLt proposes and keeps the fastest,
/// which takes some milliseconds of the GPU.
///
/// Errors   Error(unsupported) when there is no algorithm at all
void prepare_product(const ProductShape& shape);

/// Puts the product into the stream, with what memory its algorithm needs beside.
void launch_product(Launcher& launcher, const ProductShape& shape, const ProductData& data);

}  // namespace klein::ops::cuda
