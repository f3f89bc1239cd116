#pragma once

#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "klein/weights/renaming.h"

namespace klein::flux2 {

/// Where the tensors of the transformer, under diffusers' names, lie in a file: fused q, k and v
/// come apart, and the halves of the last modulation, (shift, scale) at BFL, change places.
/// `convention` is diffusers, bfl or mflux.
///
/// Errors   Error(format) when two tensors claim the same name; `where` is the file
/// Source   diffusers single_file_utils.py, convert_flux2_transformer_checkpoint_to_diffusers;
///          mflux flux2_weight_mapping.py
weights::Renaming transformer_renaming(const weights::Shapes& tensors,
                                       weights::Convention convention, std::string_view prefix,
                                       std::string_view where);

/// Where the tensors of the autoencoder, under diffusers' names, lie in a file.
///
/// Errors   as above; Error(shape) when the file leaves out one of the decoder's levels
/// Source   diffusers scripts/convert_flux2_to_diffusers.py; mflux flux2_weight_mapping.py
weights::Renaming vae_renaming(const weights::Shapes& tensors, weights::Convention convention,
                               std::string_view prefix, std::string_view where);

/// What the tensors of a transformer's or an autoencoder's file are made of, in the names of
/// `convention`, for weights under the model's names.
std::map<std::string, weights::Merged> transformer_tensors(const std::vector<std::string>& weights,
                                                           weights::Convention convention);
std::map<std::string, weights::Merged> vae_tensors(const std::vector<std::string>& weights,
                                                   weights::Convention convention);

}  // namespace klein::flux2
