#include "klein/engine/demo_model.h"

#include <algorithm>
#include <cstdlib>
#include <optional>

#include <fmt/format.h>
#include <fmt/ranges.h>

#include "klein/core/error.h"
#include "klein/engine/data_folders.h"
#include "klein/models/flux2/registry.h"

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

std::optional<fs::path> folder_of(std::string_view name) {
  std::error_code error;
  for (const auto& folder : model_folders())
    if (fs::exists(folder / name / "model_index.json", error)) return folder / name;
  return std::nullopt;
}

}  // namespace

bool is_demo_name(std::string_view name) {
  return std::ranges::find(flux2::demo_names(), name) != flux2::demo_names().end();
}

fs::path find_demo_model(const std::string& name) {
  if (const auto folder = folder_of(name)) return *folder;
  std::vector<std::string> looked_in;
  for (const auto& folder : model_folders()) looked_in.push_back(folder.string());
  throw Error(ErrorKind::not_found,
              fmt::format("expected the model {} in one of {}", name, fmt::join(looked_in, ", ")),
              fmt::format("Set KLEIN_MODELS to the folder that holds the folder `{}`.", name));
}

std::vector<std::string> demo_models_here() {
  std::vector<std::string> names;
  for (const auto name : flux2::demo_names())
    if (folder_of(name)) names.emplace_back(name);
  return names;
}

}  // namespace klein
