#pragma once

#include <filesystem>
#include <optional>
#include <string>
#include <vector>

#include "klein/core/progress.h"
#include "klein/models/flux2/checkpoint.h"
#include "klein/quant/target.h"

namespace klein::flux2 {

enum class SaveLayout {
  mflux,      ///< Folders of shards of at most 2 GiB in mflux's names; may be quantized.
  diffusers,  ///< As published, for diffusers and transformers.
  bfl,  ///< flux-2-klein.safetensors and ae.safetensors in BFL's names; the rest as diffusers.
};

struct SaveOptions {
  std::filesystem::path folder;
  SaveLayout layout = SaveLayout::mflux;
  std::optional<quant::Target> quantize_transformer = {}, quantize_text_encoder = {},
                               quantize_vae = {};
  std::vector<Lora> loras = {};  ///< Merged into the weights, before these are packed.
};

/// What was written.
struct SaveReport {
  std::vector<std::filesystem::path> files;
  std::uint64_t bytes = 0;
  std::vector<std::string> warnings;  ///< Of the LoRAs.
};

/// Writes a model to a folder, all of it or nothing; its tokenizer and its JSON files with it.
///
/// mflux's layout holds bfloat16, or matrices packed as weights::quantize does; the others hold the
/// dtypes of the source, and bfloat16 for what it held packed. Not more than one shard is in memory
/// at a time.
///
/// Errors   Error(usage) when the folder exists and is not empty, or a layout cannot hold quantized
///          weights; Error(shape) when the weights do not fit the model; Error(io) when the system
///          refuses
/// Source   mflux model_saver.py (layout), diffusers save_pretrained
SaveReport save(const Checkpoint& checkpoint, const SaveOptions& options,
                const ProgressCallback& progress);

}  // namespace klein::flux2
