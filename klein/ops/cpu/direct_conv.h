#pragma once

#include "klein/ops/cpu/onednn.h"
#include "klein/ops/cpu/scalar.h"

namespace klein::ops::native {

/// A convolution by our own tiles: float32 inside, whatever the pictures are.
///
/// On processors without AVX-512, oneDNN's convolution of channels-last pictures reaches about half
/// of the speed of its matrix product; this one stays near it, and unpacks bfloat16 on the way.
///
/// Shapes   as `convolution`; weights and bias are float32
template <typename T>
void direct_convolution(const ConvolutionSizes& sizes, const T* x, const float* w,
                        const float* bias, T* y);

}  // namespace klein::ops::native
