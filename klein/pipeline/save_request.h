#pragma once

#include <cstdint>
#include <filesystem>
#include <string>
#include <vector>

#include "klein/core/options.h"

namespace klein {

/// Where a model is to be saved, and how.
struct SaveRequest {
  std::filesystem::path folder;  ///< New, or empty.
  SaveLayout layout = SaveLayout::mflux;
};

/// What was written.
struct SaveResult {
  std::vector<std::filesystem::path> files;
  std::uint64_t bytes = 0;
  std::vector<std::string> warnings;  ///< Sentences for the person who asked.
};

}  // namespace klein
