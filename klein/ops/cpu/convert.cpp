#include "klein/ops/cpu/convert.h"

#include "klein/ops/cpu/kernel.h"

namespace klein::ops::native {

KLEIN_CLONES
void widen(const Bf16* in, float* out, std::int64_t count) {
#pragma omp simd
  for (std::int64_t i = 0; i < count; ++i) out[i] = to_float(in[i]);
}

KLEIN_CLONES
void narrow(const float* in, Bf16* out, std::int64_t count) {
#pragma omp simd
  for (std::int64_t i = 0; i < count; ++i) out[i] = round_to<Bf16>(in[i]);
}

void widen_all(const Bf16* in, float* out, std::int64_t count) {
  parallel_ranges(count, sizeof(float), [&](std::int64_t begin, std::int64_t end) {
    widen(in + begin, out + begin, end - begin);
  });
}

void narrow_all(const float* in, Bf16* out, std::int64_t count) {
  parallel_ranges(count, sizeof(float), [&](std::int64_t begin, std::int64_t end) {
    narrow(in + begin, out + begin, end - begin);
  });
}

}  // namespace klein::ops::native
