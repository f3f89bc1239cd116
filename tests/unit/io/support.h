#pragma once

#include <cstddef>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <span>
#include <string>
#include <string_view>

#include <doctest/doctest.h>
#include <stdlib.h>

#include "klein/core/error.h"

namespace klein::io::test {

/// An empty folder that goes away with everything in it.
class TempDir {
 public:
  TempDir() {
    std::string pattern = (std::filesystem::temp_directory_path() / "klein-io-XXXXXX").string();
    REQUIRE(::mkdtemp(pattern.data()) != nullptr);
    path_ = pattern;
  }
  TempDir(const TempDir&) = delete;
  TempDir& operator=(const TempDir&) = delete;
  ~TempDir() {
    std::error_code ignored;
    std::filesystem::remove_all(path_, ignored);
  }

  const std::filesystem::path& path() const { return path_; }
  std::filesystem::path operator/(std::string_view name) const { return path_ / name; }

  /// Writes `text` into a file of that name, without the code under test.
  std::filesystem::path file(std::string_view name, std::string_view text) const {
    std::ofstream out(path_ / name, std::ios::binary);
    out.write(text.data(), static_cast<std::streamsize>(text.size()));
    REQUIRE(out.good());
    return path_ / name;
  }

  /// Files and folders directly inside, hidden ones too.
  std::size_t count() const {
    std::size_t count = 0;
    for (const auto& entry : std::filesystem::directory_iterator(path_)) {
      CAPTURE(entry.path());
      ++count;
    }
    return count;
  }

 private:
  std::filesystem::path path_;
};

inline std::string content(const std::filesystem::path& path) {
  std::ifstream in(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(in), {}};
}

/// The error that `act` throws; fails the test when there is none.
template <typename Act>
Error error_of(Act&& act) {
  try {
    act();
  } catch (const Error& error) {
    return error;
  }
  FAIL("no error was thrown");
  return Error(ErrorKind::internal, "");
}

/// Its message alone, with `folder` shortened to DIR.
template <typename Act>
std::string message_of(const TempDir& folder, Act&& act) {
  std::string text = error_of(act).what();
  const std::string long_name = folder.path().string();
  for (auto at = text.find(long_name); at != text.npos; at = text.find(long_name))
    text.replace(at, long_name.size(), "DIR");
  return text;
}

}  // namespace klein::io::test
