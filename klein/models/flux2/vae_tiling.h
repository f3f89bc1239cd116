#pragma once

#include <cstdint>

#include "klein/models/flux2/vae.h"
#include "klein/pipeline/request.h"
#include "klein/tensor/mlx.h"

namespace klein::flux2 {

/// How the autoencoder goes over one picture.
struct VaePlan {
  VaeTiling tiling = VaeTiling::off;  ///< Not automatic.
  int strip_rows = 0;                 ///< Of VaeTiling::exact: rows of a strip on every level.

  /// The most memory that it takes beside the weights and what is there already.
  std::uint64_t estimated_bytes = 0;
};

/// Chooses for one picture: `automatic` is as a whole where that keeps within the budget, and else
/// exact; strips are as high as the budget allows. What no plan keeps within is planned all the
/// same, as lean as possible, with an estimate that says so.
///
/// Units    rows and columns in latent pixels; bytes
/// Thread   any
VaePlan plan_decode(const VaeConfig& config, VaeTiling wish, int rows, int columns, mx::Dtype dtype,
                    std::uint64_t budget_bytes);

/// The same for pictures that are encoded.
///
/// Units    rows and columns in pixels; bytes
VaePlan plan_encode(const VaeConfig& config, VaeTiling wish, int rows, int columns, mx::Dtype dtype,
                    std::uint64_t budget_bytes);

/// As Vae::decode, by a plan.
mx::array decode(const Vae& vae, const mx::array& latents, const VaePlan& plan);

/// As Vae::encode, by a plan.
mx::array encode(const Vae& vae, const mx::array& pixels, const VaePlan& plan);

}  // namespace klein::flux2
