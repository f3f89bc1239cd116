#pragma once

#include <cstddef>
#include <filesystem>
#include <string>
#include <utility>
#include <vector>

namespace klein::io {

/// Everything that is wrong with one file, for one message.
class Complaints {
 public:
  void add(std::string complaint) {
    if (listed_.size() < kListed) listed_.push_back(std::move(complaint));
    ++count_;
  }

  bool empty() const noexcept { return count_ == 0; }

  /// Throws Error(format) "expected WHAT, got FAULT; FAULT; and N more: PATH" unless empty.
  void throw_if_any(const std::string& what, const std::filesystem::path& path,
                    const std::string& hint = {}) const;

 private:
  static constexpr std::size_t kListed = 10;

  std::vector<std::string> listed_;
  std::size_t count_ = 0;
};

}  // namespace klein::io
