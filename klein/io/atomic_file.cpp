#include <atomic>
#include <cerrno>
#include <random>
#include <system_error>
#include <utility>

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/stat.h>
#include <unistd.h>

#include "klein/core/error.h"
#include "klein/io/file.h"

namespace klein::io {

namespace fs = std::filesystem;

namespace {

constexpr int kMaxNumber = 1'000'000;

/// Short, so that it fits wherever the final name does not reach the system's limit.
std::string temporary_name() {
  static std::atomic<unsigned> counter{0};
  std::random_device random;
  return fmt::format(".klein-{:x}-{:x}-{:08x}.part", ::getpid(), counter++, random());
}

fs::path numbered(const fs::path& path, int number) {
  if (number == 0) return path;
  fs::path name = path.stem();
  name += fmt::format("_{}", number);
  name += path.extension();
  return path.parent_path() / name;
}

fs::path folder_of(const fs::path& path) {
  return path.has_parent_path() ? path.parent_path() : fs::path(".");
}

bool is_taken(const fs::path& path) {
  std::error_code ignored;  // a name that cannot be asked about fails when it is used
  return fs::exists(fs::symlink_status(path, ignored));
}

/// Best effort: some file systems cannot sync a folder, and the file itself is safe by now.
void sync_folder(const fs::path& folder) {
  const int descriptor = ::open(folder.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  if (descriptor < 0) return;
  ::fsync(descriptor);
  ::close(descriptor);
}

[[noreturn]] void fail_exists(const fs::path& path) {
  throw Error(ErrorKind::usage,
              fmt::format("expected a new file, but one exists already: {}", path.string()),
              "Choose another name, or ask for it to be overwritten");
}

}  // namespace

AtomicFile::AtomicFile(fs::path path, Overwrite overwrite)
    : path_(std::move(path)), overwrite_(overwrite) {
  check_target();
  create_temporary();
}

AtomicFile::~AtomicFile() {
  if (descriptor_ >= 0) ::close(descriptor_);
  if (!temporary_.empty()) ::unlink(temporary_.c_str());
}

void AtomicFile::fail(std::string_view act, int error_number) const {
  const bool full = error_number == ENOSPC || error_number == EDQUOT || error_number == EFBIG;
  throw Error(ErrorKind::io,
              fmt::format("cannot {} ({}): {}", act, std::generic_category().message(error_number),
                          path_.string()),
              full ? "Free some space there, or write to another folder" : "");
}

void AtomicFile::check_target() {
  const fs::path name = path_.filename();
  if (name.empty() || name == "." || name == "..")
    throw Error(ErrorKind::io,
                fmt::format("expected the name of a file, got a folder: {}",
                            path_.empty() ? std::string("(an empty name)") : path_.string()));
  std::error_code error;
  fs::create_directories(folder_of(path_), error);
  if (error) fail("create the folder", error.value());

  if (overwrite_ == Overwrite::number) return;
  if (overwrite_ == Overwrite::refuse) {
    if (is_taken(path_)) fail_exists(path_);
    return;
  }
  const auto status = fs::status(path_, error);
  if (!fs::exists(status)) return;
  if (!fs::is_regular_file(status))
    throw Error(ErrorKind::io,
                fmt::format("expected a regular file to write, got a {}: {}",
                            fs::is_directory(status) ? "folder" : "device", path_.string()));
  path_ = fs::canonical(path_, error);
  if (error) fail("follow the link", error.value());
  // A rename would replace a write-protected file without a word.
  if (::access(path_.c_str(), W_OK) != 0) fail("replace the file", errno);
}

void AtomicFile::create_temporary() {
  for (int attempt = 0; attempt < 16 && descriptor_ < 0; ++attempt) {
    fs::path candidate = folder_of(path_) / temporary_name();
    descriptor_ = ::open(candidate.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0666);
    if (descriptor_ >= 0)
      temporary_ = std::move(candidate);
    else if (errno != EEXIST)
      break;
  }
  if (descriptor_ < 0) fail("create the file", errno);
  struct stat replaced {};
  // Best effort: a file system without permissions is no reason to refuse.
  if (overwrite_ == Overwrite::replace && ::stat(path_.c_str(), &replaced) == 0)
    (void)!::fchmod(descriptor_, replaced.st_mode & 0777);
}

void AtomicFile::write(std::span<const std::byte> bytes) {
  if (descriptor_ < 0) throw Error(ErrorKind::internal, "a committed file was written to");
  while (!bytes.empty()) {
    const auto count = ::write(descriptor_, bytes.data(), bytes.size());
    if (count < 0 && errno == EINTR) continue;
    if (count <= 0) {
      const int reason = count < 0 ? errno : EIO;
      fail(fmt::format("write more than {} bytes", size_), reason);
    }
    size_ += static_cast<std::uint64_t>(count);
    bytes = bytes.subspan(static_cast<std::size_t>(count));
  }
}

/// Gives the temporary file the name `name` unless it is taken; false when it is.
bool AtomicFile::claim(const fs::path& name) {
  if (::link(temporary_.c_str(), name.c_str()) == 0) {
    ::unlink(temporary_.c_str());
    return true;
  }
  if (errno == EEXIST) return false;
  if (errno != EPERM && errno != EOPNOTSUPP && errno != ENOSYS && errno != EMLINK)
    fail("name the file", errno);
  // No hard links here (FAT, some network shares): reserve the name, then rename over it.
  const int reserved = ::open(name.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0666);
  if (reserved < 0 && errno == EEXIST) return false;
  if (reserved < 0) fail("name the file", errno);
  ::close(reserved);
  if (::rename(temporary_.c_str(), name.c_str()) == 0) return true;
  const int reason = errno;
  ::unlink(name.c_str());
  fail("name the file", reason);
}

fs::path AtomicFile::commit() {
  if (descriptor_ < 0) throw Error(ErrorKind::internal, "a file was committed twice");
  // EINVAL: a file system that cannot sync.
  if (::fsync(descriptor_) != 0 && errno != EINVAL) fail("store the file", errno);
  if (::close(std::exchange(descriptor_, -1)) != 0) fail("close the file", errno);

  fs::path name = path_;
  if (overwrite_ == Overwrite::replace) {
    if (::rename(temporary_.c_str(), path_.c_str()) != 0) fail("name the file", errno);
  } else if (overwrite_ == Overwrite::refuse) {
    if (!claim(path_)) fail_exists(path_);
  } else {
    int number = 0;
    while (!claim(name)) {
      if (++number > kMaxNumber) fail_exists(path_);
      name = numbered(path_, number);
    }
  }
  temporary_.clear();
  sync_folder(folder_of(name));
  return name;
}

fs::path write_atomically(const fs::path& path, std::span<const std::byte> bytes,
                          Overwrite overwrite) {
  AtomicFile file(path, overwrite);
  file.write(bytes);
  return file.commit();
}

fs::path unique_path(const fs::path& path) {
  for (int number = 0; number <= kMaxNumber; ++number)
    if (!is_taken(numbered(path, number))) return numbered(path, number);
  fail_exists(path);
}

}  // namespace klein::io
