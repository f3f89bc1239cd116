#include "klein/models/flux2/new_folder.h"

#include <cerrno>
#include <cstdlib>
#include <system_error>

#include <fmt/format.h>

#include "klein/core/error.h"

namespace klein::flux2 {

namespace fs = std::filesystem;

NewFolder::NewFolder(const fs::path& path) : final_(fs::absolute(path).lexically_normal()) {
  if (!final_.has_filename()) final_ = final_.parent_path();
  std::error_code error;
  const auto status = fs::symlink_status(final_, error);
  const bool is_free =
      !fs::exists(status) || (fs::is_directory(status) && fs::is_empty(final_, error));
  if (!is_free)
    throw Error(
        ErrorKind::usage,
        fmt::format("expected a new or empty folder, got one that is not: {}", path.string()),
        "Name another folder; nothing is ever saved over a model.");
  try {
    make_parents();
    make_hidden();
  } catch (...) {
    clean_up();
    throw;
  }
}

NewFolder::~NewFolder() {
  clean_up();
}

/// Folders above that hold something else by now stay.
void NewFolder::clean_up() noexcept {
  std::error_code ignored;
  if (!outer_.empty()) fs::remove_all(outer_, ignored);
  for (auto it = made_.rbegin(); it != made_.rend(); ++it) fs::remove(*it, ignored);
}

void NewFolder::fail(const char* act, int error_number) const {
  throw Error(ErrorKind::io,
              fmt::format("cannot {} ({}): {}", act, std::generic_category().message(error_number),
                          final_.string()));
}

void NewFolder::make_parents() {
  std::error_code error;
  std::vector<fs::path> missing;
  for (auto folder = final_.parent_path(); !fs::exists(folder, error);
       folder = folder.parent_path())
    missing.insert(missing.begin(), folder);
  for (const auto& folder : missing) {
    fs::create_directory(folder, error);
    if (error) fail("create the folders above it", error.value());
    made_.push_back(folder);
  }
}

/// mkdtemp's folder is for this user alone; the one inside has the permissions of any new folder.
void NewFolder::make_hidden() {
  auto pattern = (final_.parent_path() / ".klein-XXXXXX").string();
  if (::mkdtemp(pattern.data()) == nullptr) fail("create a folder beside it", errno);
  outer_ = pattern;
  std::error_code error;
  fs::create_directory(outer_ / "model", error);
  if (error) fail("create a folder beside it", error.value());
  inner_ = outer_ / "model";
}

void NewFolder::commit() {
  std::error_code error;
  fs::rename(inner_, final_, error);
  if (error) fail("rename the finished folder", error.value());
  made_.clear();
}

}  // namespace klein::flux2
