#pragma once

#include <filesystem>
#include <string>

#include <doctest/doctest.h>
#include <zlib.h>

namespace klein::test {

/// The unpacked content of a .gz file.
inline std::string read_gzip(const std::filesystem::path& path) {
  const gzFile file = gzopen(path.c_str(), "rb");
  REQUIRE(file != nullptr);
  std::string text(1 << 16, '\0'), all;
  int count = 0;
  while ((count = gzread(file, text.data(), static_cast<unsigned>(text.size()))) > 0)
    all.append(text.data(), static_cast<std::size_t>(count));
  REQUIRE(count == 0);
  REQUIRE(gzclose(file) == Z_OK);
  return all;
}

}  // namespace klein::test
