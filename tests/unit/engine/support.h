#pragma once

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <initializer_list>
#include <optional>
#include <string>

#include "unit/io/support.h"

namespace klein::test {

/// An environment variable for as long as the object lives.
class Variable {
 public:
  Variable(const char* name, const std::string& value) : name_(name) {
    if (const char* before = std::getenv(name)) before_ = before;
    ::setenv(name, value.c_str(), 1);
  }
  Variable(const Variable&) = delete;
  Variable& operator=(const Variable&) = delete;
  ~Variable() { before_ ? ::setenv(name_, before_->c_str(), 1) : ::unsetenv(name_); }

 private:
  const char* name_;
  std::optional<std::string> before_;
};

/// A cache that nobody else uses, and no network.
struct OfflineCache {
  io::test::TempDir folder;
  Variable cache{"HF_HUB_CACHE", folder.path().string()};
  Variable offline{"HF_HUB_OFFLINE", "1"};

  /// A snapshot as huggingface_hub lays it out where links are not to be had.
  std::filesystem::path add(const std::string& repo,
                            std::initializer_list<const char*> names) const {
    const std::string commit(40, 'c');
    const auto root = folder.path() / ("models--" + repo);
    for (const char* name : names) {
      const auto path = root / "snapshots" / commit / name;
      std::filesystem::create_directories(path.parent_path());
      std::ofstream(path) << "{}";
    }
    std::filesystem::create_directories(root / "blobs");
    std::ofstream(root / "blobs" / std::string(40, 'b')) << "{}";
    std::filesystem::create_directories(root / "refs");
    std::ofstream(root / "refs/main") << commit;
    return root / "snapshots" / commit;
  }
};

}  // namespace klein::test
