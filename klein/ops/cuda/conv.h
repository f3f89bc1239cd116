#pragma once

#include <vector>

#include "klein/tensor/mlx.h"

namespace klein::ops::cuda {

/// A convolution's output and its bias where `x` is their sum and has not been computed yet: what
/// reads x adds the bias itself, which spares a pass over the picture. Else only x.
std::vector<mx::array> inputs_of_biased(const mx::array& x);

}  // namespace klein::ops::cuda
