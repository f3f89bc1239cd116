#pragma once

#include <string>
#include <string_view>

#include "klein/tensor/mlx.h"

namespace klein {

/// "[1, 512, 7680]", for messages.
std::string describe(const mx::Shape& shape);

/// "[1, 512, 7680] bfloat16", for messages.
std::string describe(const mx::array& a);

/// Throws Error(shape) unless the last axis of `a` is `size`.
void expect_last_axis(const mx::array& a, int size, std::string_view what);

}  // namespace klein
