#pragma once

#include <vector>

#include "klein/io/json.h"
#include "klein/pipeline/request.h"

namespace klein::cli {

/// The LoRAs of a picture as reports list them.
inline nlohmann::json lora_report(const std::vector<UsedLora>& loras) {
  auto list = nlohmann::json::array();
  for (const auto& lora : loras)
    list.push_back({{"name", lora.name},
                    {"file", lora.file.string()},
                    {"scale", lora.scale},
                    {"merged", lora.is_merged}});
  return list;
}

}  // namespace klein::cli
