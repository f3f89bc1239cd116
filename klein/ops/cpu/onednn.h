#pragma once

#include <compare>
#include <cstdint>

namespace klein::ops::native {

/// What the numbers of a oneDNN call are; all its matrices have the same kind, biases are float32.
enum class NumberKind { f32, bf16 };

/// Whether this processor multiplies bfloat16 matrices faster than float32 ones.
bool has_fast_bf16();

/// y = x w^T + bias, rows of y being `y_stride` numbers apart.
struct MatmulSizes {
  std::int64_t m, n, k, y_stride;
  NumberKind kind;
  bool bias;

  auto operator<=>(const MatmulSizes&) const = default;
};

/// Shapes   x [m, k], w [n, k], bias [n] or null -> y [m, n]
/// Errors   Error(internal) when oneDNN refuses
/// Thread   any; uses all cores unless it is called from a parallel region
void matmul(const MatmulSizes& sizes, const void* x, const void* w, const float* bias, void* y);

/// A convolution of channels-last pictures.
struct ConvolutionSizes {
  std::int64_t batch, height, width, channels;  // input
  std::int64_t filters, kernel_height, kernel_width;
  std::int64_t stride, top, bottom, left, right;
  NumberKind kind;
  bool bias;

  std::int64_t out_height() const { return (height + top + bottom - kernel_height) / stride + 1; }
  std::int64_t out_width() const { return (width + left + right - kernel_width) / stride + 1; }

  auto operator<=>(const ConvolutionSizes&) const = default;
};

/// Shapes   x [B, H, W, I], w [O, kH, kW, I], bias [O] or null -> y [B, H', W', O]
/// Errors   Error(internal) when oneDNN refuses
/// Thread   any
void convolution(const ConvolutionSizes& sizes, const void* x, const void* w, const float* bias,
                 void* y);

}  // namespace klein::ops::native
