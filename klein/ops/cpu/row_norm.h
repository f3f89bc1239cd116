#pragma once

#include <cmath>
#include <cstdint>

#include "klein/ops/cpu/scalar.h"

namespace klein::ops::native {

/// 1 / sqrt(mean(x^2) + eps) of one row.
template <typename T>
KLEIN_INLINE float inverse_rms(const T* x, float eps, std::int64_t count) {
  float sum = 0.0f;
#pragma omp simd reduction(+ : sum)
  for (std::int64_t i = 0; i < count; ++i) sum += to_float(x[i]) * to_float(x[i]);
  return 1.0f / std::sqrt(sum / static_cast<float>(count) + eps);
}

}  // namespace klein::ops::native
