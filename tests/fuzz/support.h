#pragma once

#include <filesystem>
#include <span>
#include <string_view>

#include "klein/weights/stored_tensor.h"

namespace klein::fuzz {

/// Throws what is no klein::Error unless `promise` was kept.
void expect(bool kept, const char* promise);

/// A folder of this process that goes away with it.
class Folder {
 public:
  Folder();
  Folder(const Folder&) = delete;
  Folder& operator=(const Folder&) = delete;
  ~Folder();

  const std::filesystem::path& path() const { return path_; }

  /// Puts `content` into the file of that name, in place of what was there.
  std::filesystem::path write(std::string_view name, std::string_view content) const;

 private:
  std::filesystem::path path_;
};

/// Reads both ends.
void touch(std::span<const std::byte> bytes);

/// Checks what the loader relies on, and decodes what is packed.
void check_stored(const weights::WeightFiles& files);

/// Finds the networks among the tensors, their names and sizes, as the loader does.
void find_networks(const weights::Shapes& tensors);

}  // namespace klein::fuzz
