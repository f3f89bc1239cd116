#include <filesystem>

#include "fuzz/support.h"
#include "fuzz/targets.h"
#include "klein/hub/listing.h"

void klein::fuzz::listing(std::string_view input) {
  const auto listing = hub::parse_listing(input, "org/repo");
  expect(listing.commit.size() == 40, "a commit has 40 digits");
  const std::filesystem::path folder = "/cache/snapshot";
  for (const auto& [name, file] : listing.files) {
    const auto path = (folder / name).lexically_normal();
    expect(path.string() == folder.string() + '/' + name, "names stay inside of a folder");
    expect(name.find('\0') == name.npos, "names have no zero byte");
    expect(file.etag.size() == 40 || file.etag.size() == 64, "an etag is a checksum");
    expect(file.etag.find_first_not_of("0123456789abcdef") == file.etag.npos,
           "a checksum is made of digits");
  }
}
