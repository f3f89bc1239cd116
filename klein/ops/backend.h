#pragma once

#include <cstdint>

#include "klein/core/options.h"

namespace klein::ops {

/// Who computes the operations of this folder.
enum class Backend {
  native,    ///< Hand-written and oneDNN kernels where this build and device have them.
  portable,  ///< MLX's own operations everywhere; slower, differentiable, the reference of the
             ///< tests.
};

/// Chooses the backend of the operations that this thread builds from now on: every engine has a
/// thread of its own, and so its own choice. Graphs that already exist keep what they were built
/// with.
void set_backend(Backend backend) noexcept;

/// What this thread chose last; native until it chooses.
Backend backend() noexcept;

/// Chooses the backend for the default device, and whether products with weights of e4m3 rows are
/// made of 8-bit numbers: the other side is then rounded to e4m3 too, with a scale for each row.
///
/// Thread   as set_backend
/// Errors   Error(unsupported) when 8-bit products are asked for and the device has none
void use_math(MathMode mode);

/// What use_math asked for last.
bool fp8_products() noexcept;

/// Whether this build takes memory of the GPU from the driver's pool itself, for weights and
/// kernels, and not by MLX's allocator.
bool has_own_gpu_memory();

/// The most of an NVIDIA GPU's memory that this process has held at once; 0 without these kernels,
/// whose memory MLX does not count.
std::uint64_t gpu_peak_bytes();

/// Whether this build holds CPU kernels at all.
bool has_cpu_kernels() noexcept;

}  // namespace klein::ops
