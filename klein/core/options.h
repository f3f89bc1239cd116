#pragma once

namespace klein {

/// What the numbers of a computation are: bfloat16 as diffusers runs FLUX.2, or float32.
enum class Precision { bfloat16, float32 };

/// How far the arithmetic of a GPU may stand from the reference; the CPU has one way only.
enum class MathMode {
  exact,  ///< MLX's own operations.
  fast,   ///< Kernels made for the model: the same numbers, sums in other orders.
  fp8,    ///< Also weights and products in 8 bits in the transformer's blocks.
};

/// Where a computation runs.
enum class DeviceChoice { automatic, cpu, gpu };

/// Whose random numbers a seed means.
enum class Rng {
  torch,  ///< PyTorch's CPU generator, as diffusers with torch.Generator("cpu").
  mlx,    ///< MLX's counter-based generator, as mflux.
};

/// How a saved model lies on the disk.
enum class SaveLayout {
  mflux,      ///< Folders of shards of at most 2 GiB in mflux's names; may be quantized.
  diffusers,  ///< As published, for diffusers and transformers.
  bfl,        ///< Transformer and autoencoder as single files in BFL's names; the rest in folders.
};

}  // namespace klein
