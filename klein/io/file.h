#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <span>
#include <string>
#include <string_view>

namespace klein::io {

inline constexpr std::uint64_t kMaxTextBytes = std::uint64_t{256} << 20;

/// Whether there is anything of this name. A link to nothing counts: opening it gives the better
/// message.
bool is_there(const std::filesystem::path& path);

/// The whole content of a file.
///
/// Errors   Error(not_found) when there is no such file; Error(io) when it is a folder or cannot
///          be read; Error(format) when it is larger than `max_bytes`
/// Thread   any
std::string read_text(const std::filesystem::path& path, std::uint64_t max_bytes = kMaxTextBytes);

/// The bytes of a text.
inline std::span<const std::byte> as_bytes(std::string_view text) {
  return std::as_bytes(std::span(text.data(), text.size()));
}

/// What the pages of a mapping may be used for.
enum class Access {
  read_only,      ///< A write through the pointer is a crash.
  copy_on_write,  ///< A write changes this process's copy of the page, never the file.
};

/// How the pages of a mapping will be used; a hint to the system, never an error.
enum class Advice {
  sequential,  ///< Read front to back, once.
  will_need,   ///< Start reading now.
  dont_need,   ///< Give the pages back; changes made under copy_on_write are lost.
};

/// A file in memory without a copy; the pages are read when they are touched.
///
/// A file that another process shortens while it is mapped raises SIGBUS at the next touch; nothing
/// here can prevent that.
class MappedFile {
 public:
  /// Errors   Error(not_found) when there is no such file; Error(io) for a folder or a device, and
  ///          when the system refuses; Error(memory) when the address space is used up
  /// Thread   any
  static MappedFile open(const std::filesystem::path& path, Access access = Access::read_only);

  MappedFile() = default;
  MappedFile(MappedFile&& other) noexcept;
  MappedFile& operator=(MappedFile&& other) noexcept;
  ~MappedFile();

  const std::byte* data() const noexcept { return data_; }
  std::uint64_t size() const noexcept { return size_; }
  std::span<const std::byte> bytes() const noexcept { return {data_, size_}; }
  const std::filesystem::path& path() const noexcept { return path_; }
  Access access() const noexcept { return access_; }

  /// Hints at the use of the whole file, or of the pages that hold [offset, offset + length).
  void advise(Advice advice) const noexcept { advise(advice, 0, size_); }
  void advise(Advice advice, std::uint64_t offset, std::uint64_t length) const noexcept;

 private:
  void release() noexcept;

  std::byte* data_ = nullptr;
  std::uint64_t size_ = 0;
  Access access_ = Access::read_only;
  std::filesystem::path path_;
};

/// What to do when a file is already there.
enum class Overwrite {
  refuse,   ///< Error(usage).
  replace,  ///< It goes the moment the new one is complete.
  number,   ///< It stays; the new one becomes out_1.png, out_2.png, ...
};

/// A file that appears under its name only when it is complete.
///
/// The bytes go to a hidden file in the same folder (missing folders are created); commit() renames
/// it. Without commit() the destructor removes it, so neither an exception nor Ctrl-C leaves a part
/// of a file under the final name. Overwrite::replace follows a link and keeps the permissions of
/// the file it replaces; with Overwrite::number two processes never get the same name.
///
/// Errors   Error(io) naming the final path when the system refuses a folder, a write (disk full),
///          a sync, a close or the rename, and when the path is a folder or a device; Error(usage)
///          when the file exists and Overwrite::refuse forbids to touch it
/// Thread   one thread at a time
class AtomicFile {
 public:
  explicit AtomicFile(std::filesystem::path path, Overwrite overwrite = Overwrite::refuse);
  AtomicFile(const AtomicFile&) = delete;
  AtomicFile& operator=(const AtomicFile&) = delete;
  ~AtomicFile();

  void write(std::span<const std::byte> bytes);
  void write(std::string_view text) { write(as_bytes(text)); }

  /// Bytes written so far.
  std::uint64_t size() const noexcept { return size_; }

  /// Makes the file durable, gives it its name and returns that. Nothing can be written afterwards.
  std::filesystem::path commit();

 private:
  void check_target();
  void create_temporary();
  bool claim(const std::filesystem::path& name);
  [[noreturn]] void fail(std::string_view act, int error_number) const;

  std::filesystem::path path_;
  std::filesystem::path temporary_;
  Overwrite overwrite_;
  int descriptor_ = -1;
  std::uint64_t size_ = 0;
};

/// Writes a whole file; returns the name that it got. See AtomicFile.
std::filesystem::path write_atomically(const std::filesystem::path& path,
                                       std::span<const std::byte> bytes,
                                       Overwrite overwrite = Overwrite::refuse);

/// Writes under `path`, or where that is taken under out_1.png, out_2.png, ...; returns the name.
inline std::filesystem::path save_new(const std::filesystem::path& path,
                                      std::span<const std::byte> bytes) {
  return write_atomically(path, bytes, Overwrite::number);
}

/// Writes under `path`, replacing what is there; returns the name.
inline std::filesystem::path save_over(const std::filesystem::path& path,
                                       std::span<const std::byte> bytes) {
  return write_atomically(path, bytes, Overwrite::replace);
}

/// The first name of "out.png", "out_1.png", "out_2.png", ... that nothing has now. For messages:
/// only Overwrite::number can promise that the name is still free when it is used.
std::filesystem::path unique_path(const std::filesystem::path& path);

}  // namespace klein::io
