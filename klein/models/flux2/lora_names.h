#pragma once

#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "klein/models/flux2/contents.h"
#include "klein/weights/renaming.h"

namespace klein::flux2 {

/// The weights that one layer of a LoRA changes.
struct LoraTarget {
  PartKind part = PartKind::transformer;
  std::vector<std::string> weights;  ///< Under the model's names; their rows under each other.
  bool swap_halves = false;          ///< The second half of the layer's rows comes first.
};

/// What the programs that train LoRAs call the linear layers of a model: diffusers' and mflux's
/// names, BFL's with fused q, k and v, transformers' for the text encoder; with dots, or with
/// underscores as kohya and LyCORIS write them; behind any of the prefixes in use, or none.
///
/// Source   diffusers lora_conversion_utils.py; kohya networks/lora_flux.py; LyCORIS; mflux
///          flux2_lora_mapping.py
class LoraNames {
 public:
  /// `transformer` and `text_encoder` are shapes under the model's names.
  LoraNames(const weights::Shapes& transformer, const weights::Shapes& text_encoder);

  /// What a layer stands for, or nullptr.
  const LoraTarget* find(std::string_view layer) const;

 private:
  void add(std::string_view name, const LoraTarget& target);

  std::map<std::string, LoraTarget, std::less<>> targets_;
};

}  // namespace klein::flux2
