#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string>

namespace klein::hub {

/// Computes the name that the hub gives to a file's content while the bytes come in.
class Digest {
 public:
  /// SHA-256 where `expected` has 64 hex digits, as large files are named; else git's name of a
  /// file of `size` bytes, SHA-1 over "blob SIZE", a zero byte and the content.
  Digest(const std::string& expected, std::uint64_t size);
  Digest(const Digest&) = delete;
  Digest& operator=(const Digest&) = delete;
  ~Digest();

  void add(std::span<const std::byte> bytes);

  /// Forgets all bytes.
  void restart();

  /// Hex digits, lower case; nothing can be added afterwards but after restart().
  std::string finish();

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace klein::hub
