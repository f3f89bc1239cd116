#pragma once

#include <filesystem>
#include <functional>
#include <map>
#include <optional>
#include <string>

namespace klein::hub {

/// Whether to go on with what takes long; asked at least ten times a second.
using MayGoOn = std::function<bool()>;

/// One repository's folder in the cache that huggingface_hub keeps:
///   models--ORG--NAME/blobs/ETAG          the content of files
///   models--ORG--NAME/refs/REVISION       the commit that a branch or tag stood for
///   models--ORG--NAME/snapshots/COMMIT/   links ../../blobs/ETAG under the files' names
///   .locks/models--ORG--NAME/ETAG.lock    locked by whoever writes that blob
///
/// Errors   Error(io) where the system refuses
/// Source   huggingface_hub, file_download.py
class RepoCache {
 public:
  RepoCache(const std::filesystem::path& cache, const std::string& repo);

  const std::filesystem::path& folder() const noexcept { return folder_; }
  std::filesystem::path blob(const std::string& etag) const { return folder_ / "blobs" / etag; }
  std::filesystem::path incomplete(const std::string& etag) const;
  std::filesystem::path lock(const std::string& etag) const { return locks_ / (etag + ".lock"); }
  std::filesystem::path snapshot(const std::string& commit) const {
    return folder_ / "snapshots" / commit;
  }

  /// The commit that a revision was when it was last asked for: a commit itself, or from refs/.
  std::optional<std::string> commit_of(const std::string& revision) const;

  /// Files of a snapshot whose content is there, by their names in the repository.
  std::map<std::string, std::filesystem::path> files(const std::string& commit) const;

  void write_ref(const std::string& revision, const std::string& commit) const;

  /// Whether `name` of the snapshot is a link to that blob.
  bool is_linked(const std::string& commit, const std::string& name, const std::string& etag) const;

  /// Makes `name` of the snapshot a link to that blob, whatever it was before.
  void link(const std::string& commit, const std::string& name, const std::string& etag) const;

 private:
  std::filesystem::path folder_, locks_;
};

/// A lock that only one process has, as Python's filelock takes it.
class FileLock {
 public:
  /// Waits until no other process has it.
  ///
  /// Errors   Error(cancelled) once `may_go_on` says no; Error(io) when the system refuses
  FileLock(const std::filesystem::path& path, const MayGoOn& may_go_on);
  FileLock(const FileLock&) = delete;
  FileLock& operator=(const FileLock&) = delete;
  ~FileLock();

 private:
  int descriptor_ = -1;
};

/// Makes a folder and those above it. Error(io) when the system refuses.
void make_folder(const std::filesystem::path& folder);

/// Throws Error(io) "cannot ACT (REASON): PATH", with a hint where the disk is full.
[[noreturn]] void fail_io(const std::string& act, int error_number,
                          const std::filesystem::path& path);

}  // namespace klein::hub
