#pragma once

#include <filesystem>
#include <map>
#include <string>
#include <vector>

#include "klein/core/progress.h"

namespace klein {

/// The file of a LoRA that a person named; downloads it where it is on the hub only.
///
/// A name is, in this order: a file that exists (`~` is the user's folder); a name of
/// lora_library(); `org/repo:FILE` or `hf:org/repo/FILE` of the hub; or `org/repo`, which has to
/// hold exactly one .safetensors file. Files of the hub lie in its cache, each below its own
/// repository.
///
/// Errors   Error(not_found) naming what there is to choose from; those of hub::snapshot
/// Thread   any
std::filesystem::path find_lora(const std::string& name, const ProgressCallback& progress = {});

/// The folders of LORA_LIBRARY_PATH, which colons separate.
std::vector<std::string> lora_folders();

/// The .safetensors files below these folders by their names without the ending. The first folder
/// wins; shards of saved models are left out.
std::map<std::string, std::filesystem::path> lora_library(
    const std::vector<std::string>& folders = lora_folders());

}  // namespace klein
