#pragma once

#include <string_view>

#include "klein/models/flux2/config.h"
#include "klein/weights/renaming.h"

namespace klein::flux2 {

/// Sizes that the shapes tell. rope_theta 2000, eps 1e-6 and four axes of head_dim / 4, which they
/// cannot, are those of every FLUX.2 Klein.
///
/// Shapes   `tensors` as renamed_shapes gives them
/// Errors   Error(shape) when a tensor that tells a size is missing or does not fit the others
TransformerConfig transformer_config_from(const weights::Shapes& tensors, std::string_view where);

/// Sizes that the shapes tell, the decoder's own widths among them. 32 groups, batch_norm_eps 1e-4
/// and sample_size 1024, which they cannot, are those of every FLUX.2 autoencoder.
///
/// Shapes   `tensors` as renamed_shapes gives them
/// Errors   as above; Error(unsupported) for pictures that are not RGB
VaeConfig vae_config_from(const weights::Shapes& tensors, std::string_view where);

}  // namespace klein::flux2
