#include "klein/engine/demo_model.h"

#include <cstdlib>
#include <vector>

#ifdef __APPLE__
#include <mach-o/dyld.h>
#endif

#include <fmt/format.h>
#include <fmt/ranges.h>

#include "klein/core/error.h"

namespace klein {
namespace {

namespace fs = std::filesystem;

fs::path program_folder() {
#ifdef __APPLE__
  char buffer[4096];
  std::uint32_t size = sizeof buffer;
  const fs::path program = _NSGetExecutablePath(buffer, &size) == 0 ? fs::path(buffer) : fs::path();
#else
  std::error_code error;
  const fs::path program = fs::read_symlink("/proc/self/exe", error);
#endif
  return program.parent_path();
}

/// Folders that may hold models under their names, nearest first.
std::vector<fs::path> model_folders() {
  std::vector<fs::path> folders;
  if (const char* chosen = std::getenv("KLEIN_MODELS"); chosen != nullptr && *chosen != '\0')
    folders.emplace_back(chosen);
  const auto program = program_folder();
  if (!program.empty()) {
    folders.push_back(program.parent_path() / "share/klein/models");    // PREFIX/bin/klein
    folders.push_back(program.parent_path() / "models");                // build/klein
    folders.push_back(program.parent_path().parent_path() / "models");  // build/dev/klein
  }
#ifdef KLEIN_DATA_DIR
  folders.emplace_back(fs::path(KLEIN_DATA_DIR) / "models");
#endif
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
