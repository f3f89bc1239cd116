#include "klein/ops/cpu/dot.h"

namespace klein::ops::native {
namespace {

template <typename W>
KLEIN_INLINE float dot_loop(const float* x, const W* w, std::int64_t count) {
  // Several sums at once hide the latency of an addition, and round less than one long sum.
  constexpr std::int64_t kLanes = 64;
  float sums[kLanes] = {};
  std::int64_t i = 0;
  for (; i + kLanes <= count; i += kLanes)
#pragma omp simd
    for (std::int64_t j = 0; j < kLanes; ++j) sums[j] += x[i + j] * to_float(w[i + j]);
  float sum = 0.0f;
  for (; i < count; ++i) sum += x[i] * to_float(w[i]);
#pragma omp simd reduction(+ : sum)
  for (std::int64_t j = 0; j < kLanes; ++j) sum += sums[j];
  return sum;
}

}  // namespace

KLEIN_CLONES
float dot(const float* x, const float* w, std::int64_t count) {
  return dot_loop(x, w, count);
}

KLEIN_CLONES
float dot(const float* x, const Bf16* w, std::int64_t count) {
  return dot_loop(x, w, count);
}

}  // namespace klein::ops::native
