#include "klein/hub/blob_file.h"

#include <cerrno>
#include <utility>
#include <vector>

#include <fcntl.h>
#include <unistd.h>

#include "klein/core/error.h"

namespace klein::hub {
namespace {

constexpr std::size_t kReadBytes = std::size_t{4} << 20;

}  // namespace

BlobFile::BlobFile(const std::filesystem::path& path, const RepoFile& expected,
                   const MayGoOn& may_go_on)
    : path_(path), expected_(expected), digest_(expected.etag, expected.bytes) {
  make_folder(path.parent_path());
  descriptor_ = ::open(path.c_str(), O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0666);
  if (descriptor_ < 0) fail_io("create the file", errno, path_);
  try {
    read_what_is_there(may_go_on);
  } catch (...) {
    ::close(descriptor_);
    throw;
  }
}

BlobFile::~BlobFile() {
  if (descriptor_ >= 0) ::close(descriptor_);
}

void BlobFile::read_what_is_there(const MayGoOn& may_go_on) {
  std::vector<std::byte> buffer(kReadBytes);
  while (true) {
    if (!may_go_on()) throw Error(ErrorKind::cancelled, "stopped on request");
    const auto count = ::read(descriptor_, buffer.data(), buffer.size());
    if (count < 0 && errno == EINTR) continue;
    if (count < 0) fail_io("read the file", errno, path_);
    if (count == 0) break;
    size_ += static_cast<std::uint64_t>(count);
    if (size_ > expected_.bytes) return restart();
    digest_.add({buffer.data(), static_cast<std::size_t>(count)});
  }
}

void BlobFile::add(std::span<const std::byte> bytes) {
  digest_.add(bytes);
  while (!bytes.empty()) {
    const auto count = ::write(descriptor_, bytes.data(), bytes.size());
    if (count < 0 && errno == EINTR) continue;
    if (count <= 0) fail_io("write the file", count < 0 ? errno : EIO, path_);
    size_ += static_cast<std::uint64_t>(count);
    bytes = bytes.subspan(static_cast<std::size_t>(count));
  }
}

void BlobFile::restart() {
  if (::ftruncate(descriptor_, 0) != 0 || ::lseek(descriptor_, 0, SEEK_SET) != 0)
    fail_io("empty the file", errno, path_);
  digest_.restart();
  size_ = 0;
}

void BlobFile::commit(const std::filesystem::path& name) {
  // EINVAL: a file system that cannot sync.
  if (::fsync(descriptor_) != 0 && errno != EINVAL) fail_io("store the file", errno, path_);
  if (::close(std::exchange(descriptor_, -1)) != 0) fail_io("close the file", errno, path_);
  if (::rename(path_.c_str(), name.c_str()) != 0) fail_io("name the file", errno, name);
}

}  // namespace klein::hub
