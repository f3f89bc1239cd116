#pragma once

#include <string>
#include <vector>

#include "klein/hub/snapshot.h"

namespace klein {

/// The parts of a checkpoint, as its folders are called.
inline constexpr const char* kModelParts[] = {"scheduler", "tokenizer", "text_encoder",
                                              "transformer", "vae"};

/// Of the files of a checkpoint those that loading its `parts` needs (all parts where none are
/// named): in diffusers' layout, or in mflux's, which has neither model_index.json nor configs. Of
/// weights only what the index of their folder names; never a single file beside the folders. Of a
/// folder with a LoRA instead of weights also those of the folder that its adapter_config.json
/// names.
///
/// Errors   Error(not_found) naming all that is missing; Error(format) for a broken index or
///          configuration; Error(unsupported) where a LoRA's weights lie elsewhere
std::vector<std::string> needed_files(const hub::FileTree& tree,
                                      const std::vector<std::string>& parts);

/// Whether files are a checkpoint in folders at all, whole or not.
bool is_in_folders(const hub::FileTree& tree);

/// The names beside the folders that may be whole models or transformers.
std::vector<std::string> single_files(const hub::FileTree& tree);

}  // namespace klein
