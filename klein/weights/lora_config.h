#pragma once

#include <functional>
#include <map>
#include <optional>
#include <string>
#include <string_view>

#include "klein/io/json.h"
#include "klein/io/safetensors.h"

namespace klein::weights {

/// The file in which PEFT writes about a LoRA, beside its tensors.
inline constexpr const char* kLoraConfigFile = "adapter_config.json";

/// What PEFT writes about a LoRA beside its tensors: the alphas of files that have no tensors for
/// them.
class LoraConfig {
 public:
  /// From `lora_adapter_metadata` of the file's header, as diffusers saves it, else from the
  /// adapter_config.json in the same folder, as PEFT does; without either nothing is known.
  ///
  /// Errors   Error(format) for a broken configuration; Error(unsupported) for a DoRA, and for
  ///          patterns that are more than the end of a name
  /// Source   diffusers loaders/lora_base.py; peft LoraConfig
  static LoraConfig read(const io::SafetensorsFile& file);

  /// alpha / rank, or alpha / sqrt(rank) where the configuration says so; nothing where it does not
  /// speak of the layer. `layer` is its name in the file.
  std::optional<double> scale(std::string_view layer, int rank) const;

 private:
  struct Part {
    std::optional<double> alpha;
    std::map<std::string, double> alpha_pattern;
    bool is_rank_stabilized = false;
  };

  void add(const nlohmann::json& config, const std::string& prefix, const std::string& where);

  std::map<std::string, Part, std::less<>> parts_;  ///< By what stands before a layer's name.
};

}  // namespace klein::weights
