#pragma once

#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>
#include <vector>

#include "klein/core/progress.h"
#include "klein/hub/snapshot.h"
#include "klein/models/flux2/registry.h"

namespace klein {

/// Where a model is that a person named, and what the name says about it.
struct ModelLocation {
  std::filesystem::path path;  ///< A folder, or a single file.
  std::string name = {};       ///< Key of the registry, a name of flux2::demo_names(), or empty.
  std::string repo = {};       ///< Of the hub, where it came from there.

  /// From --base-model, the registry or the name of the file or repository, in this order; what
  /// model_index.json says is truer. Never from the name of a folder.
  std::optional<flux2::Variant> variant = {};
  std::string variant_source = {};  ///< "--base-model", "its name".
};

struct FindOptions {
  std::string base_model = {};  ///< A name of the registry that says what the model was made from.
  bool may_download = true;
  ProgressCallback progress = {};       ///< Hears of Stage::download.
  std::vector<std::string> parts = {};  ///< Folders that are needed, "vae"; empty: all.
};

/// Finds the model that a person named, and downloads it where it is on the hub only.
///
/// A name is, in this order: `demo`, `demo-kv`, `demo-base`; a folder or file that exists (`~` is
/// the user's folder); a name of the registry; `org/repo` of the hub, where a copy in the cache is
/// taken as it is; or `org/repo:FILE` for one file of it.
///
/// Errors   Error(usage) for a base model that is not in the registry; Error(not_found) with names
///          that are near, and for a repository that holds no model; those of hub::snapshot
/// Thread   any
ModelLocation find_model(const std::string& name, const FindOptions& options = {});

/// The folder of one part ("vae", "tokenizer") that a model lacks, from the published model that it
/// was made from; its files alone are downloaded. Nothing where the location names no such model.
std::optional<std::filesystem::path> find_part(const ModelLocation& location,
                                               const std::string& part,
                                               const FindOptions& options = {});

/// What a person named to take the place of a model's part: a file or folder of that part, or a
/// model that has one. Errors as find_model.
std::filesystem::path find_replacement(const std::string& name, const std::string& part,
                                       const FindOptions& options = {});

/// What using a model would bring from the hub.
struct PlannedDownload {
  std::string repo;
  std::vector<hub::NeededFile> files = {};  ///< Empty where the hub could not be asked.
  std::uint64_t bytes = 0;                  ///< Of all files that are needed.
  std::uint64_t missing_bytes = 0;          ///< Of those that are not here.
  std::string doubt = {};                   ///< Why `bytes` are only about right; empty: they are.
};

/// What find_model would download, which asks the hub but brings nothing; nothing where the name
/// stands for something that is on this machine, or for nothing.
///
/// Errors   those of hub::plan, for a repository whose size the registry does not know
std::optional<PlannedDownload> planned_download(const std::string& name,
                                                const FindOptions& options = {});

/// What people type: the names of the demo models and the short names of the registry.
std::vector<std::string> model_names();

/// How much of a model is on this machine.
enum class Presence { none, partial, complete };

/// "none", "partial", "complete".
const char* name_of(Presence presence);

/// A model that has a name, and where it is.
struct KnownModel {
  const flux2::RegistryEntry* entry = nullptr;
  Presence presence = Presence::none;
  std::filesystem::path path = {};  ///< Its folder, once it is complete.
};

/// Every entry of the registry. Asks the cache alone, never the network.
std::vector<KnownModel> known_models();

}  // namespace klein
