#include "klein/hub/cache.h"

#include <cerrno>
#include <chrono>
#include <random>
#include <system_error>
#include <thread>

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include "klein/core/error.h"
#include "klein/hub/names.h"
#include "klein/io/file.h"

namespace klein::hub {
namespace {

namespace fs = std::filesystem;

constexpr std::uint64_t kMaxRefBytes = 4096;
constexpr auto kLockPause = std::chrono::milliseconds(50);

std::string folder_name(const std::string& repo) {
  std::string name = "models--" + repo;
  if (const auto slash = name.find('/'); slash != name.npos) name.replace(slash, 1, "--");
  return name;
}

/// Where the link of a file points, relative to the folder that it stands in.
fs::path link_target(const std::string& name, const std::string& etag) {
  fs::path up = "../..";
  for (const char c : name)
    if (c == '/') up = ".." / up;
  return up / "blobs" / etag;
}

}  // namespace

void fail_io(const std::string& act, int error_number, const fs::path& path) {
  const bool is_full = error_number == ENOSPC || error_number == EDQUOT || error_number == EFBIG;
  throw Error(ErrorKind::io,
              fmt::format("cannot {} ({}): {}", act, std::generic_category().message(error_number),
                          path.string()),
              is_full ? "Free some space there, or set HF_HUB_CACHE to a folder on another disk; "
                        "what was downloaded is kept."
                      : "");
}

void make_folder(const fs::path& folder) {
  std::error_code error;
  fs::create_directories(folder, error);
  if (error) fail_io("create the folder", error.value(), folder);
}

RepoCache::RepoCache(const fs::path& cache, const std::string& repo)
    : folder_(cache / folder_name(repo)), locks_(cache / ".locks" / folder_name(repo)) {}

fs::path RepoCache::incomplete(const std::string& etag) const {
  return folder_ / "blobs" / (etag + ".incomplete");
}

std::optional<std::string> RepoCache::commit_of(const std::string& revision) const {
  if (is_commit(revision)) return revision;
  if (!is_inside(revision)) return std::nullopt;
  std::error_code error;
  const auto ref = folder_ / "refs" / revision;
  if (!fs::is_regular_file(ref, error)) return std::nullopt;
  auto commit = io::read_text(ref, kMaxRefBytes);
  while (!commit.empty() && commit.back() == '\n') commit.pop_back();
  return is_commit(commit) ? std::optional(commit) : std::nullopt;
}

std::map<std::string, fs::path> RepoCache::files(const std::string& commit) const {
  std::map<std::string, fs::path> files;
  const auto root = snapshot(commit);
  std::error_code error;
  for (const auto& entry : fs::recursive_directory_iterator(
           root, fs::directory_options::skip_permission_denied, error)) {
    std::error_code unreadable;  // a link to nothing is a file that is not there
    if (entry.is_regular_file(unreadable))
      files.emplace(entry.path().lexically_relative(root).generic_string(), entry.path());
  }
  return files;
}

void RepoCache::write_ref(const std::string& revision, const std::string& commit) const {
  if (revision == commit || commit_of(revision) == commit) return;
  io::save_over(folder_ / "refs" / revision, io::as_bytes(commit));
}

bool RepoCache::is_linked(const std::string& commit, const std::string& name,
                          const std::string& etag) const {
  std::error_code error;
  const auto path = snapshot(commit) / name;
  return fs::exists(path, error) && fs::equivalent(path, blob(etag), error);
}

void RepoCache::link(const std::string& commit, const std::string& name,
                     const std::string& etag) const {
  if (is_linked(commit, name, etag)) return;
  const auto path = snapshot(commit) / name;
  make_folder(path.parent_path());
  const auto temporary = path.parent_path() /
                         fmt::format(".klein-{:x}-{:08x}.link", ::getpid(), std::random_device{}());
  if (::symlink(link_target(name, etag).c_str(), temporary.c_str()) != 0)
    fail_io("make a link", errno, path);
  if (::rename(temporary.c_str(), path.c_str()) != 0) {
    const int reason = errno;
    ::unlink(temporary.c_str());
    fail_io("name the link", reason, path);
  }
}

FileLock::FileLock(const fs::path& path, const MayGoOn& may_go_on) {
  make_folder(path.parent_path());
  while (descriptor_ < 0) {
    const int descriptor = ::open(path.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0664);
    if (descriptor < 0) fail_io("open the lock", errno, path);
    if (::flock(descriptor, LOCK_EX | LOCK_NB) == 0) {
      struct stat status {};
      // Whoever had it may have removed the file meanwhile: then this locks a name that nobody
      // sees.
      if (::fstat(descriptor, &status) == 0 && status.st_nlink > 0) {
        descriptor_ = descriptor;
        return;
      }
      ::close(descriptor);
      continue;
    }
    const int reason = errno;
    ::close(descriptor);
    if (reason != EWOULDBLOCK && reason != EINTR) fail_io("lock the file", reason, path);
    if (!may_go_on()) throw Error(ErrorKind::cancelled, "stopped on request");
    std::this_thread::sleep_for(kLockPause);
  }
}

FileLock::~FileLock() {
  if (descriptor_ >= 0) ::close(descriptor_);
}

}  // namespace klein::hub
