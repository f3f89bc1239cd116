#pragma once

#include <cstdint>
#include <filesystem>
#include <set>
#include <string>
#include <vector>

namespace klein {

/// One file of a library of LoRAs, as its header describes it.
struct ListedLora {
  std::string name;  ///< That --lora takes.
  std::filesystem::path file;
  std::uint64_t bytes = 0;
  std::string kind;                      ///< "LoRA", "LoHa", "LoKr".
  std::set<int> ranks;                   ///< Of its layers, as far as they have one.
  std::int64_t layers = 0;               ///< Each as the file has it: fused ones are one.
  std::vector<std::string> models = {};  ///< "4B", "9B": those that it was made for.
  std::string fault = {};                ///< Why it cannot be used; empty where it can.
};

/// The LoRAs below these folders by their names. Only headers are read, so a NaN is not seen.
///
/// Errors   Error(not_found) when none of the folders is there
/// Thread   any
std::vector<ListedLora> list_loras(const std::vector<std::string>& folders);

}  // namespace klein
