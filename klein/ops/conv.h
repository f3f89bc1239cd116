#pragma once

#include <optional>

#include "klein/tensor/mlx.h"

namespace klein::ops {

/// Rows and columns of zeros around a picture.
struct Padding {
  int top = 0;
  int bottom = 0;
  int left = 0;
  int right = 0;
};

/// Convolution of channels-last pictures.
///
/// Shapes   x [B, H, W, I], weight [O, kH, kW, I], bias [O] -> [B, H', W', O]
/// Dtype    that of x; sums in float32, the bias is added before the one rounding; weight and bias
///          may have another dtype
/// Errors   Error(shape) when the sizes do not fit together, or the kernel is larger than the
/// padded
///          picture
/// Source   torch.nn.functional.conv2d (whose weights are [O, I, kH, kW])
mx::array conv2d(const mx::array& x, const mx::array& weight, const std::optional<mx::array>& bias,
                 int stride, Padding padding);

/// The same with equal padding on all four sides.
mx::array conv2d(const mx::array& x, const mx::array& weight,
                 const std::optional<mx::array>& bias = std::nullopt, int stride = 1,
                 int padding = 0);

/// Every pixel becomes a square of two by two.
///
/// Shapes   x [B, H, W, C] -> [B, 2 H, 2 W, C]
/// Dtype    that of x
/// Errors   Error(shape) unless x has four axes
mx::array upsample_nearest_2x(const mx::array& x);

}  // namespace klein::ops
