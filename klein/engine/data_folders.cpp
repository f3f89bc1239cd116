#include "klein/engine/data_folders.h"

#include <cstdlib>
#include <system_error>

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

}  // namespace

std::vector<fs::path> data_folders() {
  std::vector<fs::path> folders;
  const auto program = program_folder();
  if (!program.empty()) {
    folders.push_back(program.parent_path() / "share/klein");  // PREFIX/bin/klein
    folders.push_back(program.parent_path());                  // build/klein
    folders.push_back(program.parent_path().parent_path());    // build/dev/klein
  }
#ifdef KLEIN_DATA_DIR
  folders.emplace_back(KLEIN_DATA_DIR);
#endif
  return folders;
}

fs::path find_compare_script() {
  std::error_code error;
  std::vector<std::string> looked_in;
  auto folders = data_folders();
  if (const char* models = std::getenv("KLEIN_MODELS"); models != nullptr && *models != '\0')
    folders.insert(folders.begin(), fs::path(models).parent_path());
  for (const auto& folder : folders) {
    const auto script = folder / "tools/compare_diffusers.py";
    if (fs::exists(script, error)) return script;
    looked_in.push_back(script.string());
  }
  throw Error(ErrorKind::not_found,
              fmt::format("expected diffusers' side of the comparison in one of {}",
                          fmt::join(looked_in, ", ")));
}

}  // namespace klein
