#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "klein/weights/renaming.h"

namespace klein::flux2 {

enum class PartKind { transformer, text_encoder, vae };

/// "transformer", "text encoder", "autoencoder": for messages and tables.
std::string_view part_name(PartKind kind);

/// One network that was found among the tensors of a file or folder.
struct Part {
  PartKind kind = PartKind::transformer;
  weights::Convention convention = weights::Convention::diffusers;
  std::string prefix;       ///< What stands before every name: "model.diffusion_model.", mostly "".
  weights::Shapes tensors;  ///< Those of this part, under their names in the file.
};

/// The networks of FLUX.2 Klein among these tensors, each kind at most once: one in the published
/// files, up to three in a checkpoint of ComfyUI.
///
/// Errors   Error(unsupported) for other models and adapters, saying what they look like;
///          Error(format) when a kind is there twice, or tensors are left that belong to none;
///          `where` is the file or folder
std::vector<Part> find_parts(const weights::Shapes& tensors, std::string_view where);

/// "LoRA", "LoKr adapter", "LoHa adapter", where that is what the tensors are.
std::optional<std::string_view> adapter_name(const weights::Shapes& tensors);

/// Where a part's tensors, under the names of diffusers and transformers, lie.
///
/// Errors   Error(format) when two tensors claim the same name; Error(shape) when levels of an
///          autoencoder are missing
weights::Renaming renaming(const Part& part, std::string_view where);

}  // namespace klein::flux2
