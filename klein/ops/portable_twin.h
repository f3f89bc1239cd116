#pragma once

#include <functional>
#include <vector>

#include "klein/tensor/mlx.h"

namespace klein::ops {

/// An operation made of MLX's own, for the gradients of the kernel that does the same.
using PortableTwin = std::function<mx::array(const std::vector<mx::array>& inputs)>;

/// What mx::Primitive::vjp returns of an operation with one result: the gradients that `argnums`
/// ask for.
std::vector<mx::array> gradients_of(const PortableTwin& twin, const std::vector<mx::array>& primals,
                                    const std::vector<mx::array>& cotangents,
                                    const std::vector<int>& argnums);

}  // namespace klein::ops
