#pragma once

#include <functional>
#include <string>
#include <vector>

#include "klein/engine/engine.h"

namespace CLI {
class App;
}

namespace klein::cli {

/// The LoRAs of a command line, as they were typed.
struct LoraFlags {
  std::vector<std::string> words;   ///< Of all --lora; an empty word stands between two of them.
  std::vector<std::string> paths;   ///< --lora-paths
  std::vector<std::string> scales;  ///< --lora-scales
  bool merge = false;               ///< --merge-loras

  /// Asked for a word behind --lora that is neither a name nor a scale; whether it took it.
  std::function<bool(const std::string&)> take_prompt = {};

  /// The choices that the words stand for; `warnings` hears of scales that were left out or are too
  /// many.
  ///
  /// Errors   Error(usage) for a scale that is no number, for more than two words behind one
  /// --lora,
  ///          and for both spellings at once
  std::vector<LoraChoice> choices(std::vector<std::string>& warnings) const;

  /// Puts the choices where they belong: on a request, or with --merge-loras into the weights.
  /// Errors as choices().
  void settle(EngineOptions& engine, GenerateRequest& request,
              std::vector<std::string>& warnings) const;
};

/// --lora NAME [SCALE], any number of times, and mflux's --lora-paths and --lora-scales.
void add_lora_flags(CLI::App& command, LoraFlags& flags);

/// --merge-loras.
void add_merge_flag(CLI::App& command, LoraFlags& flags);

}  // namespace klein::cli
