#pragma once

#include <filesystem>
#include <string>

#include "klein/models/flux2/contents.h"
#include "klein/models/flux2/model_files.h"

namespace klein::io {
class JsonReader;
}

namespace klein::flux2 {

/// Whether a folder holds adapter_config.json and adapter_model.safetensors, as PEFT and diffusers
/// write a LoRA, and no other weights.
bool holds_difference(const std::filesystem::path& folder);

/// What adapter_config.json calls `base_model_name_or_path`: the path from its own folder to the
/// weights that the LoRA is added to.
///
/// Errors   Error(format) when there is none; Error(unsupported) unless it begins with ./ or ../
std::string base_path_in(const io::JsonReader& config);

/// Opens a part that such a folder stands for: the weights in the folder that its
/// `base_model_name_or_path` names, and what the LoRA adds to them. Sizes come from its own
/// config.json where it has one.
///
/// Errors   Error(unsupported) where the base is no path that begins with ./ or ../, or again such
///          a folder; Error(not_found) where it is not there; Error(format) for layers that the
///          part does not have; as open_part and read_lora
/// Source   peft LoraConfig
PartSource open_difference(const std::filesystem::path& folder, PartKind kind);

}  // namespace klein::flux2
