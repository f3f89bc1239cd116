#pragma once

namespace klein {

/// What the numbers of a computation are: bfloat16 as diffusers runs FLUX.2, or float32.
enum class Precision { bfloat16, float32 };

/// Where a computation runs.
enum class DeviceChoice { automatic, cpu, gpu };

/// Whose random numbers a seed means.
enum class Rng {
  torch,  ///< PyTorch's CPU generator, as diffusers with torch.Generator("cpu").
  mlx,    ///< MLX's counter-based generator, as mflux.
};

}  // namespace klein
