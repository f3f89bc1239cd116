#pragma once

#include <cstdint>
#include <initializer_list>

#include <cuda.h>

#include "klein/ops/cuda/kernel.h"
#include "klein/tensor/mlx.h"

/// Launches of the kernels for Hopper, which read their operands through tensor maps.
namespace klein::ops::cuda {

/// Whether the GPU is a Hopper and this build holds kernels for it.
bool has_hopper();

/// A bfloat16 array in the GPU's memory as the tensor memory accelerator reads it: `sizes` from the
/// innermost axis on, the strides of all but that one in numbers, and the box of one load.
CUtensorMap tensor_map(const void* data, std::initializer_list<std::int64_t> sizes,
                       std::initializer_list<std::int64_t> strides, std::initializer_list<int> box);

/// silu(x gate^T) * (x up^T) into columns of `out`.
///
/// Shapes   x [M, K] rows of `x_stride` numbers, gate and up [F, K]; out: M rows of `out_stride`
void launch_swiglu_product(Launcher& launcher, const mx::array& x, const mx::array& gate,
                           const mx::array& up, void* out, int out_stride);

/// Whether launch_swiglu_product takes these sizes, and is faster than a product and a gate.
bool fits_swiglu_product(int rows, int k, int features);

/// A 3x3 convolution with padding 1 of x [B, H, W, C], or of x enlarged twice, to y.
///
/// `weight` is [O, 3, 3, C], or for the enlarged x what doubled_weight makes of it; bias [O] and
/// residual (as y) may be null. There is no residual where x is enlarged.
void launch_conv(Launcher& launcher, const mx::array& x, const mx::array& weight, const void* bias,
                 const void* residual, bool doubled, const mx::array& y);

/// Whether launch_conv takes a weight [O, 3, 3, C].
bool fits_conv(const mx::array& weight);

}  // namespace klein::ops::cuda
