#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "klein/core/progress.h"
#include "klein/hub/settings.h"

namespace klein::hub {

/// The files of a repository or of a folder, to choose from.
struct FileTree {
  std::string where;            ///< For messages: the repository, or the folder.
  std::set<std::string> names;  ///< "vae/config.json".
  std::function<std::string(const std::string& name)> read;  ///< The text of a small one.
};

/// The files that are needed. Throws Error(not_found) where one of them is missing.
using Choose = std::function<std::vector<std::string>(const FileTree&)>;

/// What of a repository is wanted.
struct Wanted {
  std::string repo;  ///< "org/name".
  std::string revision = "main";
  Choose choose;
};

/// The folder of a repository's files in the cache, after fetching those that are missing: four at
/// once, with size and checksum checked, going on where an earlier run stopped. Processes that
/// want the same file wait for each other.
///
/// `progress` hears of Stage::download in bytes; the total is 0 while the hub is being asked.
///
/// Errors   those of Session; Error(format) for an answer that cannot be true; Error(io) where the
///          files do not fit on the disk, before the first byte; Error(not_found) where the hub
///          may not be asked and the cache lacks something; those of `choose`; Error(cancelled)
/// Thread   any; `progress` is called on the caller's
std::filesystem::path snapshot(const Wanted& wanted, const Settings& settings,
                               const ProgressCallback& progress = {});

/// A file of a repository that is needed.
struct NeededFile {
  std::string name;
  std::uint64_t bytes = 0;
  bool is_here = false;  ///< In the cache, whole.
};

/// What snapshot() would bring, by asking the hub; the cache stays as it is.
///
/// Errors   those of snapshot(); Error(not_found) where the hub may not be asked
/// Thread   any; `progress` is called on the caller's, to hear whether to go on
std::vector<NeededFile> plan(const Wanted& wanted, const Settings& settings,
                             const ProgressCallback& progress = {});

/// What snapshot() gives from the cache alone: the commit that the revision was when it was
/// fetched. Nothing unless all that `choose` names is there.
std::optional<std::filesystem::path> cached_snapshot(const Wanted& wanted,
                                                     const Settings& settings);

/// Whether the cache holds any file of a repository, whole or not.
bool has_part_of(const std::string& repo, const Settings& settings);

}  // namespace klein::hub
