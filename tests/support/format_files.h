#pragma once

#include <filesystem>
#include <fstream>
#include <string>

#include "support/gzip.h"
#include "support/json.h"

namespace klein::test {

/// tests/fixtures/formats/cases.json: every file there, what is in it, and what it decodes to.
inline nlohmann::json format_cases() {
  return fixture_json("formats/cases").at("cases");
}

inline void unpack_file(const std::filesystem::path& from, std::filesystem::path to) {
  std::filesystem::create_directories(to.parent_path());
  if (from.extension() != ".gz") {
    std::filesystem::copy_file(from, to, std::filesystem::copy_options::overwrite_existing);
    return;
  }
  std::ofstream out(to.replace_extension(), std::ios::binary);
  out << read_gzip(from);
  REQUIRE(out.good());
}

/// A file or folder of tests/fixtures/formats, unpacked below `folder`: where it lies now.
inline std::filesystem::path unpack_format(const std::string& name,
                                           const std::filesystem::path& folder) {
  namespace fs = std::filesystem;
  const auto source = fs::path(KLEIN_TEST_FIXTURES) / "formats";
  if (!fs::is_directory(source / name)) {
    unpack_file(source / (name + ".gz"), folder / (name + ".gz"));
    return folder / name;
  }
  for (const auto& entry : fs::recursive_directory_iterator(source / name))
    if (entry.is_regular_file())
      unpack_file(entry.path(), folder / fs::relative(entry.path(), source));
  return folder / name;
}

}  // namespace klein::test
