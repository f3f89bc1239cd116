#include "klein/io/file.h"

#include <cerrno>
#include <system_error>
#include <utility>

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "klein/core/error.h"

namespace klein::io {

namespace fs = std::filesystem;

namespace {

class Descriptor {
 public:
  explicit Descriptor(int value) : value_(value) {}
  Descriptor(const Descriptor&) = delete;
  Descriptor& operator=(const Descriptor&) = delete;
  ~Descriptor() { ::close(value_); }
  operator int() const noexcept { return value_; }

 private:
  int value_;
};

[[noreturn]] void fail_read(const fs::path& path, int error_number) {
  throw Error(ErrorKind::io,
              fmt::format("cannot read the file ({}): {}",
                          std::generic_category().message(error_number), path.string()));
}

int open_for_reading(const fs::path& path) {
  // Without O_NONBLOCK a FIFO that nobody writes to would hang the program here.
  const int descriptor = ::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK);
  if (descriptor >= 0) return descriptor;
  if (errno == ENOENT || errno == ENOTDIR)
    throw Error(ErrorKind::not_found,
                fmt::format("expected a file, found none: {}", path.string()));
  fail_read(path, errno);
}

struct stat describe(const Descriptor& descriptor, const fs::path& path) {
  struct stat status {};
  if (::fstat(descriptor, &status) != 0) fail_read(path, errno);
  if (S_ISDIR(status.st_mode))
    throw Error(ErrorKind::io, fmt::format("expected a file, got a folder: {}", path.string()));
  return status;
}

[[noreturn]] void fail_too_large(const fs::path& path, std::uint64_t max_bytes) {
  throw Error(ErrorKind::format, fmt::format("expected at most {} bytes, got a larger file: {}",
                                             max_bytes, path.string()));
}

}  // namespace

bool is_there(const fs::path& path) {
  std::error_code ignored;
  return fs::exists(fs::symlink_status(path, ignored));
}

std::string read_text(const fs::path& path, std::uint64_t max_bytes) {
  const Descriptor descriptor(open_for_reading(path));
  const auto status = describe(descriptor, path);
  ::fcntl(descriptor, F_SETFL, 0);  // from here on a pipe may block until its writer is done
  const auto expected = S_ISREG(status.st_mode) ? static_cast<std::uint64_t>(status.st_size) : 0;
  if (expected > max_bytes) fail_too_large(path, max_bytes);

  // One byte more than the size tells the end of the file in the same call.
  std::string text(expected + 1, '\0');
  std::size_t filled = 0;
  while (true) {
    if (filled == text.size()) text.resize(text.size() * 2 + 65536);
    const auto count = ::read(descriptor, text.data() + filled, text.size() - filled);
    if (count < 0 && errno == EINTR) continue;
    if (count < 0) fail_read(path, errno);
    if (count == 0) break;
    filled += static_cast<std::size_t>(count);
    if (filled > max_bytes) fail_too_large(path, max_bytes);
  }
  text.resize(filled);
  return text;
}

MappedFile MappedFile::open(const fs::path& path, Access access) {
  const Descriptor descriptor(open_for_reading(path));
  const auto status = describe(descriptor, path);
  if (!S_ISREG(status.st_mode))
    throw Error(ErrorKind::io,
                fmt::format("expected a regular file, got a device: {}", path.string()));
  MappedFile file;
  file.path_ = path;
  file.access_ = access;
  if (status.st_size == 0) return file;  // the system maps no empty range

  const bool writable = access == Access::copy_on_write;
  const auto size = static_cast<std::size_t>(status.st_size);
  // MAP_NORESERVE: without it the system may ask for memory for every page that could be written.
  void* address = ::mmap(nullptr, size, writable ? PROT_READ | PROT_WRITE : PROT_READ,
                         MAP_PRIVATE | (writable ? MAP_NORESERVE : 0), descriptor, 0);
  if (address == MAP_FAILED) {
    if (errno == ENOMEM)
      throw Error(ErrorKind::memory,
                  fmt::format("no room to map {} bytes: {}", size, path.string()));
    fail_read(path, errno);
  }
  file.data_ = static_cast<std::byte*>(address);
  file.size_ = size;
  return file;
}

MappedFile::MappedFile(MappedFile&& other) noexcept
    : data_(std::exchange(other.data_, nullptr)),
      size_(std::exchange(other.size_, 0)),
      access_(other.access_),
      path_(std::move(other.path_)) {}

MappedFile& MappedFile::operator=(MappedFile&& other) noexcept {
  if (this == &other) return *this;
  release();
  data_ = std::exchange(other.data_, nullptr);
  size_ = std::exchange(other.size_, 0);
  access_ = other.access_;
  path_ = std::move(other.path_);
  return *this;
}

MappedFile::~MappedFile() {
  release();
}

void MappedFile::release() noexcept {
  if (data_ != nullptr) ::munmap(data_, size_);
  data_ = nullptr;
}

void MappedFile::advise(Advice advice, std::uint64_t offset, std::uint64_t length) const noexcept {
  if (offset >= size_ || length == 0) return;
  const auto page = static_cast<std::uint64_t>(::sysconf(_SC_PAGESIZE));
  auto begin = offset;
  auto end = length > size_ - offset ? size_ : offset + length;
  if (advice == Advice::dont_need) {
    // Only whole pages: the neighbours keep what they hold of a shared one.
    begin = (begin + page - 1) / page * page;
    end = end == size_ ? end : end / page * page;
    if (begin >= end) return;
  } else {
    begin = begin / page * page;
  }
  const int flag = advice == Advice::sequential  ? MADV_SEQUENTIAL
                   : advice == Advice::will_need ? MADV_WILLNEED
                                                 : MADV_DONTNEED;
  ::madvise(data_ + begin, end - begin, flag);
}

}  // namespace klein::io
