#include "klein/engine/find_lora.h"

#include <algorithm>
#include <cstdlib>
#include <optional>
#include <string_view>
#include <system_error>
#include <vector>

#include <fmt/format.h>
#include <fmt/ranges.h>

#include "klein/core/error.h"
#include "klein/hub/names.h"
#include "klein/hub/settings.h"
#include "klein/hub/snapshot.h"
#include "klein/io/text.h"
#include "klein/weights/lora_config.h"

namespace klein {
namespace {

namespace fs = std::filesystem;

constexpr std::string_view kEnding = ".safetensors";
constexpr std::size_t kListed = 20;

struct HubFile {
  std::string repo, file;
};

fs::path expanded(const std::string& path) {
  return hub::with_home(path, [](const char* variable) { return std::getenv(variable); });
}

/// org/repo, org/repo:FILE or hf:org/repo/FILE.
std::optional<HubFile> hub_file(std::string name) {
  char separator = ':';
  if (name.starts_with("hf:")) {
    name.erase(0, 3);
    separator = '/';
  }
  const auto end = name.find(separator, separator == '/' ? name.find('/') + 1 : 0);
  HubFile result{name.substr(0, end), end == name.npos ? "" : name.substr(end + 1)};
  const bool names_file = end != name.npos;
  if (!hub::is_repo_id(result.repo) || (names_file && !hub::is_inside(result.file)))
    return std::nullopt;
  return result;
}

/// The file that is meant, of those that a repository has.
std::string chosen(const HubFile& wanted, const hub::FileTree& tree) {
  std::vector<std::string> files;
  for (const auto& name : tree.names)
    if (name.ends_with(kEnding)) files.push_back(fmt::format("{}:{}", wanted.repo, name));
  const auto hint =
      files.empty() ? std::string() : fmt::format("There is {}.", fmt::join(files, ", "));
  if (!wanted.file.empty()) {
    if (tree.names.contains(wanted.file)) return wanted.file;
    throw Error(ErrorKind::not_found,
                fmt::format("expected the file {} in the repository, found none: {}",
                            io::printable(wanted.file), wanted.repo),
                hint);
  }
  if (files.size() == 1) return files.front().substr(wanted.repo.size() + 1);
  throw Error(ErrorKind::not_found,
              fmt::format("expected one {} file in the repository, found {}: {}", kEnding,
                          files.size(), wanted.repo),
              hint);
}

fs::path find_on_hub(const HubFile& wanted, const ProgressCallback& progress) {
  const auto settings = hub::settings_from_environment();
  std::string file;
  const auto choose = [&](const hub::FileTree& tree) {
    file = chosen(wanted, tree);
    const auto config = (fs::path(file).parent_path() / weights::kLoraConfigFile).generic_string();
    std::vector<std::string> needed = {file};
    if (tree.names.contains(config)) needed.push_back(config);
    return needed;
  };
  const hub::Wanted request{.repo = wanted.repo, .choose = choose};
  // Of a repository that was asked for as a whole the cache cannot tell whether it has one file
  // only.
  auto folder = wanted.file.empty() && !settings.is_offline
                    ? std::nullopt
                    : hub::cached_snapshot(request, settings);
  if (!folder) folder = hub::snapshot(request, settings, progress);
  return *folder / file;
}

bool is_shard(const fs::path& file) {
  const auto stem = file.stem().string();
  return file.parent_path().filename() == "transformer" &&
         std::ranges::all_of(stem, [](char c) { return c >= '0' && c <= '9'; });
}

void add_folder(const fs::path& folder, std::map<std::string, fs::path>& library) {
  std::error_code error;
  std::vector<fs::path> files;
  fs::recursive_directory_iterator entry(folder, fs::directory_options::skip_permission_denied,
                                         error);
  for (; !error && entry != fs::recursive_directory_iterator(); entry.increment(error))
    if (entry->is_regular_file(error) && entry->path().extension() == kEnding &&
        !is_shard(entry->path()))
      files.push_back(entry->path());
  std::ranges::sort(files);
  for (const auto& file : files) library.emplace(file.stem().string(), file);
}

}  // namespace

std::vector<std::string> lora_folders() {
  std::vector<std::string> result;
  const char* variable = std::getenv("LORA_LIBRARY_PATH");
  std::string_view folders = variable == nullptr ? "" : variable;
  while (!folders.empty()) {
    const auto end = std::min(folders.find(':'), folders.size());
    if (end != 0) result.emplace_back(expanded(std::string(folders.substr(0, end))).string());
    folders.remove_prefix(std::min(end + 1, folders.size()));
  }
  return result;
}

std::map<std::string, fs::path> lora_library(const std::vector<std::string>& folders) {
  std::map<std::string, fs::path> library;
  for (const auto& folder : folders) add_folder(folder, library);
  return library;
}

fs::path find_lora(const std::string& name, const ProgressCallback& progress) {
  std::error_code error;
  if (const auto path = expanded(name); !name.empty() && fs::exists(path, error)) return path;
  const auto library = lora_library();
  if (const auto found = library.find(name); found != library.end()) return found->second;
  if (const auto on_hub = hub_file(name)) return find_on_hub(*on_hub, progress);

  std::vector<std::string> names;
  for (const auto& [known, file] : library)
    if (names.size() < kListed) names.push_back(known);
  throw Error(
      ErrorKind::not_found,
      fmt::format("expected a LoRA's file, a name in LORA_LIBRARY_PATH, org/repo or "
                  "org/repo:FILE, found none: {}",
                  io::printable(name, 4000)),
      names.empty() ? std::string() : fmt::format("The library has {}.", fmt::join(names, ", ")));
}

}  // namespace klein
