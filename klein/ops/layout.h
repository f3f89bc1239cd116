#pragma once

#include <vector>

#include "klein/tensor/mlx.h"

/// Parts of arrays, and arrays made of parts. Kernels for GPUs write straight to where a part
/// belongs, or compute only the columns that are asked for, where what the parts are allows it.
namespace klein::ops {

/// Columns [begin, end) of the last axis.
///
/// Shapes   x [B, L, n] -> [B, L, end - begin]
/// Dtype    that of x
/// Errors   Error(shape) unless x has three axes and so many columns
mx::array columns(const mx::array& x, int begin, int end);

/// Arrays of one dtype behind each other along an axis.
///
/// Shapes   equal but for `axis`, which may count from the end
/// Dtype    that of the parts
mx::array concatenate(const std::vector<mx::array>& parts, int axis);

}  // namespace klein::ops
