#pragma once

#include <filesystem>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "klein/models/flux2/contents.h"
#include "klein/models/flux2/model_files.h"
#include "klein/quant/target.h"
#include "klein/tensor/mlx.h"
#include "klein/weights/lora.h"
#include "klein/weights/tensor_map.h"

namespace klein::flux2 {

struct Checkpoint;
struct LoadOptions;

/// A LoRA under the names of a model. Its arrays share the pages of its file.
struct Lora {
  std::filesystem::path path;
  double scale = 1.0;  ///< How strong; multiplies the scale of every layer. May be negative.
  std::vector<weights::LoraDelta> transformer, text_encoder;
  std::vector<std::string> warnings;  ///< Names all that the model has no place for.
};

/// Reads a LoRA for a model, in whatever names it was written. The same file read twice counts
/// twice.
///
/// Dtype    as in the file, or for layers that compute in `compute_dtype`: weights::in_dtype
/// Errors   as weights::read_lora_file; Error(usage) for a scale that is no finite number;
///          Error(unsupported) when it changes nothing in this model; Error(format) when two layers
///          are the same one; Error(shape) when layers have other sizes than the model's
Lora read_lora(const std::filesystem::path& path, double scale, const Checkpoint& checkpoint,
               std::optional<mx::Dtype> compute_dtype = {});

/// Which of the published models, "4B" and "9B", a LoRA has the names and sizes of; none where it
/// is for a model of other sizes.
///
/// Errors   as read_lora for what no model can have
/// Thread   one; the one that read the file
std::vector<std::string> models_of(const weights::LoraFile& file);

/// What a LoRA adds to the transformer or the text encoder.
const std::vector<weights::LoraDelta>& deltas_of(const Lora& lora, PartKind part);

/// Adds what belongs to a part, its Difference, and then LoRAs to the weights of one part, or of
/// one block of it; see weights::merge. What they changed is packed where there is a target, so
/// that it is never dense all at once.
void merge(weights::WeightMap& map, const std::vector<Lora>& loras, const PartSource& source,
           const std::optional<quant::Target>& target);

/// Names of the weights of one part that its Difference or LoRAs change: those are dense once they
/// are loaded.
std::set<std::string> changed_weights(const std::vector<Lora>& loras, const PartSource& source);

/// The LoRAs' own warnings, and what merging them does to packed weights that are not packed anew.
std::vector<std::string> lora_warnings(const Checkpoint& checkpoint, const LoadOptions& options);

}  // namespace klein::flux2
