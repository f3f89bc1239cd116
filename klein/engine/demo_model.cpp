#include "klein/engine/demo_model.h"

#include <cstdlib>
#include <vector>

#include <fmt/format.h>
#include <fmt/ranges.h>

#include "klein/core/error.h"
#include "klein/engine/data_folders.h"

namespace klein {
namespace {

namespace fs = std::filesystem;

/// Folders that may hold models under their names, nearest first.
std::vector<fs::path> model_folders() {
  std::vector<fs::path> folders;
  if (const char* chosen = std::getenv("KLEIN_MODELS"); chosen != nullptr && *chosen != '\0')
    folders.emplace_back(chosen);
  for (const auto& folder : data_folders()) folders.push_back(folder / "models");
  return folders;
}

}  // namespace

fs::path find_demo_model() {
  std::error_code error;
  std::vector<std::string> looked_in;
  for (const auto& folder : model_folders()) {
    if (fs::exists(folder / "demo/model_index.json", error)) return folder / "demo";
    looked_in.push_back(folder.string());
  }
  throw Error(ErrorKind::not_found,
              fmt::format("expected the demo model in one of {}", fmt::join(looked_in, ", ")),
              "Set KLEIN_MODELS to the folder that holds the folder `demo`.");
}

}  // namespace klein
