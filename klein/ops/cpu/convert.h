#pragma once

#include <cstdint>

#include "klein/ops/cpu/scalar.h"

namespace klein::ops::native {

/// bfloat16 to float32, exact.
void widen(const Bf16* in, float* out, std::int64_t count);

/// Float32 to bfloat16, to nearest and ties to even.
void narrow(const float* in, Bf16* out, std::int64_t count);

/// The same in several threads.
void widen_all(const Bf16* in, float* out, std::int64_t count);
void narrow_all(const float* in, Bf16* out, std::int64_t count);

}  // namespace klein::ops::native
