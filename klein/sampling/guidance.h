#pragma once

#include "klein/tensor/mlx.h"

namespace klein::sampling {

/// negative + guidance * (positive - negative): classifier-free guidance.
///
/// Dtype    that of the velocities; each of the three operations rounds, and `guidance` itself is
///          not rounded: torch multiplies by a Python number in float32
/// Source   diffusers pipeline_flux2_klein.py, the denoising loop
mx::array guide(const mx::array& positive, const mx::array& negative, float guidance);

}  // namespace klein::sampling
