#pragma once

#include <filesystem>
#include <functional>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "klein/io/file.h"
#include "klein/models/flux2/contents.h"
#include "klein/models/flux2/registry.h"
#include "klein/weights/lora.h"
#include "klein/weights/stored_tensor.h"

namespace klein::flux2 {

/// Where a model lies: a whole, and what takes the place of its parts.
struct ModelFiles {
  /// A folder (diffusers or mflux layout) or a .safetensors or .gguf file of one or more parts.
  std::filesystem::path model;

  /// Each a file, or a folder of one part (with or without config.json). The tokenizer is a
  /// tokenizer.json or its folder.
  std::optional<std::filesystem::path> transformer = {}, text_encoder = {}, vae = {},
                                       tokenizer = {};

  /// What the model's name says where its files do not.
  std::optional<Variant> variant = {};
  std::string variant_source = {};  ///< What said so: "--base-model".

  /// Asked for the parts that `model` lacks: "text_encoder", "vae", "tokenizer", "transformer" to
  /// its folder. Unset, or returning nothing: the part is missing.
  std::function<std::optional<std::filesystem::path>(const std::string& part)> fetch = {};
};

/// What is added to weights from elsewhere, for a folder that holds a LoRA instead of weights.
struct Difference {
  std::filesystem::path base;              ///< The folder of the weights.
  std::vector<weights::LoraDelta> deltas;  ///< Under the names of the whole part.
};

/// One network of a model: its weight files, and how their names become the model's.
struct PartSource {
  PartKind kind = PartKind::transformer;
  weights::Convention convention = weights::Convention::diffusers;
  std::filesystem::path path;                   ///< What was opened: a file or a folder.
  std::optional<std::filesystem::path> config;  ///< Its config.json, where there is one.
  weights::WeightFiles files;                   ///< The tensors of this part alone.
  weights::Renaming renaming;
  weights::Shapes shapes;  ///< Under the model's names.
  std::string prefix;      ///< What child() took off these names: "transformer_blocks.3.".

  /// Merged when the weights are loaded, before anything else (lora.h).
  std::optional<Difference> difference = {};

  /// The tensors of one child, under their names inside it; its name ends with a dot.
  PartSource child(std::string_view name) const;

  /// All tensors but those whose names `leave_out` wants gone.
  PartSource without(const std::function<bool(const std::string& name)>& leave_out) const;

  /// Hints at the use of all its pages.
  void advise(io::Advice advice) const noexcept;
};

/// Opens the part `kind` in a file or in a folder of its own, which may hold a LoRA that stands for
/// the weights (difference.h).
///
/// Errors   as weights::WeightFiles, find_parts and open_difference; Error(format) when the files
///          hold another part
PartSource open_part(const std::filesystem::path& path, PartKind kind);

/// Every part that these files hold. Errors as find_parts.
std::vector<PartSource> open_parts(const weights::WeightFiles& files);

}  // namespace klein::flux2
