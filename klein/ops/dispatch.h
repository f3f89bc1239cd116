#pragma once

#include <initializer_list>
#include <string_view>

#include "klein/tensor/mlx.h"

namespace klein::ops {

/// Whether the CPU kernels compute an operation on these arrays: they were built, the backend and
/// the default device ask for them, and every dtype is float32 or bfloat16.
bool use_cpu_kernels(std::initializer_list<mx::Dtype> dtypes);

/// Whether the CUDA kernels do: they were built, the backend and the default device ask for them,
/// and every dtype is bfloat16.
bool use_cuda_kernels(std::initializer_list<mx::Dtype> dtypes);

/// Throws Error(shape) unless `a` has `axes` axes.
void expect_axes(const mx::array& a, int axes, std::string_view what);

/// Throws Error(shape) unless `a` is exactly `shape`.
void expect_shape(const mx::array& a, const mx::Shape& shape, std::string_view what);

/// Throws Error(shape) unless `a` is [B, C] or [B, 1, C] for x [B, L, C].
void expect_per_row(const mx::array& a, const mx::array& x, std::string_view what);

/// Throws Error(shape) unless the dtypes are the same.
void expect_same_dtype(const mx::array& a, const mx::array& b, std::string_view what);

}  // namespace klein::ops
