#pragma once

#include <cstdint>

#include "klein/ops/cpu/scalar.h"

namespace klein::ops::native {

/// Sum of x[i] * w[i] in float32.
float dot(const float* x, const float* w, std::int64_t count);
float dot(const float* x, const Bf16* w, std::int64_t count);

}  // namespace klein::ops::native
