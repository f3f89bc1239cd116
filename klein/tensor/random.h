#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "klein/tensor/mlx.h"

namespace klein {

/// torch_randn's values, which any thread may draw.
std::vector<float> torch_normal(std::size_t count, std::uint64_t seed);

/// Standard normal float32 values that equal torch.randn(shape, generator=CPU generator with
/// manual_seed(seed)), up to the last bits of log, sin and cos.
///
/// Errors   Error(unsupported) for fewer than 16 values, which torch draws in another way
/// Source   torch aten/src/ATen/native/cpu/DistributionTemplates.h (normal_fill); mt19937
mx::array torch_randn(const mx::Shape& shape, std::uint64_t seed);

/// Standard normal float32 values of MLX's counter-based generator, as mflux draws them.
mx::array mlx_randn(const mx::Shape& shape, std::uint64_t seed);

}  // namespace klein
