#include "klein/engine/find_model.h"

#include <algorithm>
#include <cstdlib>
#include <system_error>

#include <fmt/format.h>
#include <fmt/ranges.h>

#include "klein/core/error.h"
#include "klein/engine/demo_model.h"
#include "klein/engine/needed_files.h"
#include "klein/hub/names.h"
#include "klein/hub/settings.h"
#include "klein/hub/snapshot.h"
#include "klein/io/text.h"

namespace klein {
namespace {

namespace fs = std::filesystem;

constexpr const char* kItsName = "its name";

/// The entry that --base-model names, or nullptr without one.
const flux2::RegistryEntry* base_entry(const std::string& base_model) {
  if (base_model.empty()) return nullptr;
  if (const auto* entry = flux2::find_entry(base_model)) return entry;
  std::vector<std::string_view> names;
  for (const auto& entry : flux2::registry()) {
    names.push_back(entry.key);
    names.insert(names.end(), entry.aliases.begin(), entry.aliases.end());
  }
  throw Error(ErrorKind::usage, fmt::format("expected --base-model to be one of {}, got {}",
                                            fmt::join(names, ", "), io::in_quotes(base_model)));
}

/// A name of the form org/repo or org/repo:FILE.
struct HubName {
  std::string repo, file;
};

std::optional<HubName> hub_name(const std::string& name) {
  const auto colon = name.find(':');
  HubName result{name.substr(0, colon), colon == name.npos ? "" : name.substr(colon + 1)};
  const bool has_file = colon != name.npos;
  if (!hub::is_repo_id(result.repo) || (has_file && !hub::is_inside(result.file)))
    return std::nullopt;
  return result;
}

/// What of a repository is needed: the named file, a checkpoint's folders, or its only file.
hub::Choose chooser(const std::string& file, const std::vector<std::string>& parts) {
  return [file, parts](const hub::FileTree& tree) -> std::vector<std::string> {
    const auto singles = single_files(tree);
    if (!file.empty()) {
      if (tree.names.contains(file)) return {file};
      throw Error(ErrorKind::not_found,
                  fmt::format("expected the file {} in the repository, found none: {}",
                              io::printable(file), tree.where),
                  singles.empty() ? "" : fmt::format("It has {}.", fmt::join(singles, ", ")));
    }
    if (is_in_folders(tree)) return needed_files(tree, parts);
    if (singles.size() == 1) return singles;
    if (singles.empty()) return needed_files(tree, parts);  // says what is missing
    throw Error(ErrorKind::not_found,
                fmt::format("expected one model in the repository, found {} files: {}",
                            singles.size(), tree.where),
                fmt::format("Name one of them, {}:{}; there are {}.", tree.where, singles.front(),
                            fmt::join(singles, ", ")));
  };
}

/// The folder of a snapshot, or the one file in it that was asked for.
fs::path path_in(const fs::path& snapshot, const std::string& file) {
  if (!file.empty()) return snapshot / file;
  hub::FileTree tree{.where = snapshot.string(), .names = {}, .read = {}};
  std::error_code error;
  for (const auto& entry : fs::recursive_directory_iterator(
           snapshot, fs::directory_options::skip_permission_denied, error))
    if (!entry.is_directory(error))
      tree.names.insert(entry.path().lexically_relative(snapshot).generic_string());
  const auto singles = single_files(tree);
  return is_in_folders(tree) || singles.size() != 1 ? snapshot : snapshot / singles.front();
}

ModelLocation find_on_hub(const HubName& name, const FindOptions& options) {
  const auto settings = hub::settings_from_environment();
  const hub::Wanted wanted{.repo = name.repo, .choose = chooser(name.file, options.parts)};
  auto folder = hub::cached_snapshot(wanted, settings);
  if (!folder && !options.may_download)
    throw Error(ErrorKind::not_found,
                fmt::format("expected {} in the cache, found {}: {}", name.repo,
                            hub::has_part_of(name.repo, settings) ? "a part" : "none",
                            settings.cache.string()));
  if (!folder) folder = hub::snapshot(wanted, settings, options.progress);
  ModelLocation location{.path = path_in(*folder, name.file), .repo = name.repo};
  if (const auto* entry = flux2::find_entry(name.repo)) {
    location.name = entry->key;
    location.variant = entry->variant;
    location.variant_source = kItsName;
  }
  return location;
}

/// What a name that somebody gave to a file or a repository tells, where nothing better does.
void learn_from(const std::string& file_name, ModelLocation& location) {
  if (!location.variant) {
    location.variant = flux2::variant_of_file_name(file_name);
    if (location.variant) location.variant_source = kItsName;
  }
  const auto* entry = flux2::entry_of_file_name(file_name);
  if (location.name.empty() && entry != nullptr) location.name = entry->key;
}

fs::path path_from(const std::string& name) {
  return hub::with_home(name, [](const char* n) { return std::getenv(n); });
}

/// What a name means where no file has it: a repository of the registry or of the hub.
std::optional<HubName> meaning_on_hub(const std::string& name) {
  const auto* entry = flux2::find_entry(name);
  return entry != nullptr ? HubName{std::string(entry->repo), ""} : hub_name(name);
}

ModelLocation find(const std::string& name, const FindOptions& options) {
  if (is_demo_name(name)) return {.path = find_demo_model(name), .name = name};

  std::error_code error;
  const auto path = path_from(name);
  if (!name.empty() && fs::exists(path, error)) {
    ModelLocation location{.path = path};
    if (!fs::is_directory(path, error)) learn_from(path.filename().string(), location);
    return location;
  }
  if (const auto on_hub = meaning_on_hub(name)) {
    auto location = find_on_hub(*on_hub, options);
    if (!fs::is_directory(location.path, error))
      learn_from(location.path.filename().string(), location);
    learn_from(on_hub->repo.substr(on_hub->repo.find('/') + 1), location);
    return location;
  }
  const auto near = flux2::near_names(name);
  throw Error(ErrorKind::not_found,
              fmt::format("expected a model's name, a folder, a file or org/repo, found none: {}",
                          io::printable(name, 4000)),
              (near.empty() ? "" : fmt::format("Did you mean {}? ", fmt::join(near, " or "))) +
                  fmt::format("The names are {}.", fmt::join(model_names(), ", ")));
}

}  // namespace

ModelLocation find_model(const std::string& name, const FindOptions& options) {
  const auto* base = base_entry(options.base_model);
  auto location = find(name, options);
  if (base != nullptr) {
    location.name = base->key;
    location.variant = base->variant;
    location.variant_source = "--base-model";
  }
  return location;
}

std::optional<fs::path> find_part(const ModelLocation& location, const std::string& part,
                                  const FindOptions& options) {
  const auto* entry = flux2::find_entry(location.name);
  if (entry == nullptr) return std::nullopt;
  FindOptions only = options;
  only.parts = {part};
  return find_on_hub({std::string(entry->repo), ""}, only).path / part;
}

fs::path find_replacement(const std::string& name, const std::string& part,
                          const FindOptions& options) {
  FindOptions only = options;
  only.parts = {part};
  const auto path = find_model(name, only).path;
  std::error_code error;
  return fs::is_directory(path / part, error) ? path / part : path;
}

std::optional<PlannedDownload> planned_download(const std::string& name,
                                                const FindOptions& options) {
  std::error_code error;
  if (is_demo_name(name) || (!name.empty() && fs::exists(path_from(name), error)))
    return std::nullopt;
  const auto on_hub = meaning_on_hub(name);
  if (!on_hub) return std::nullopt;
  const auto settings = hub::settings_from_environment();
  const hub::Wanted wanted{.repo = on_hub->repo, .choose = chooser(on_hub->file, options.parts)};
  if (hub::cached_snapshot(wanted, settings)) return std::nullopt;
  PlannedDownload planned{.repo = on_hub->repo};
  try {
    planned.files = hub::plan(wanted, settings, options.progress);
  } catch (const Error& e) {
    const auto* entry = flux2::find_entry(on_hub->repo);
    const bool is_asked_for_all = on_hub->file.empty() && options.parts.empty();
    if (entry == nullptr || !is_asked_for_all || e.kind() == ErrorKind::cancelled) throw;
    planned.bytes = planned.missing_bytes = entry->download_bytes;
    planned.doubt = e.what();
  }
  for (const auto& file : planned.files) {
    planned.bytes += file.bytes;
    if (!file.is_here) planned.missing_bytes += file.bytes;
  }
  return planned;
}

std::vector<std::string> model_names() {
  std::vector<std::string> names(flux2::demo_names().begin(), flux2::demo_names().end());
  for (const auto& entry : flux2::registry()) names.emplace_back(entry.short_name);
  return names;
}

const char* name_of(Presence presence) {
  switch (presence) {
    case Presence::none:
      return "none";
    case Presence::partial:
      return "partial";
    case Presence::complete:
      return "complete";
  }
  return "";
}

std::vector<KnownModel> known_models() {
  const auto settings = hub::settings_from_environment();
  std::vector<KnownModel> models;
  for (const auto& entry : flux2::registry()) {
    KnownModel model{.entry = &entry};
    const hub::Wanted wanted{.repo = std::string(entry.repo), .choose = chooser("", {})};
    if (auto folder = hub::cached_snapshot(wanted, settings)) {
      model.presence = Presence::complete;
      model.path = *std::move(folder);
    } else if (hub::has_part_of(wanted.repo, settings)) {
      model.presence = Presence::partial;
    }
    models.push_back(std::move(model));
  }
  return models;
}

}  // namespace klein
