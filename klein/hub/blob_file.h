#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <span>

#include "klein/hub/cache.h"
#include "klein/hub/digest.h"
#include "klein/hub/listing.h"

namespace klein::hub {

/// A file on its way into the cache: it keeps its name ETAG.incomplete until it is whole and
/// right, so that a later run can go on with it.
///
/// Errors   Error(io) naming the file when the system refuses
class BlobFile {
 public:
  /// Opens what an earlier run left, and reads it for the checksum.
  ///
  /// Errors   Error(cancelled) once `may_go_on` says no
  BlobFile(const std::filesystem::path& path, const RepoFile& expected, const MayGoOn& may_go_on);
  BlobFile(const BlobFile&) = delete;
  BlobFile& operator=(const BlobFile&) = delete;
  ~BlobFile();

  std::uint64_t size() const noexcept { return size_; }
  bool is_whole() const noexcept { return size_ == expected_.bytes; }

  /// Whether the bytes have the expected checksum. Asked once, when it is whole.
  bool is_right() { return digest_.finish() == expected_.etag; }

  void add(std::span<const std::byte> bytes);

  /// Throws the bytes away.
  void restart();

  /// Makes the file durable and gives it its name.
  void commit(const std::filesystem::path& name);

 private:
  void read_what_is_there(const MayGoOn& may_go_on);

  std::filesystem::path path_;
  const RepoFile& expected_;
  Digest digest_;
  int descriptor_ = -1;
  std::uint64_t size_ = 0;
};

}  // namespace klein::hub
