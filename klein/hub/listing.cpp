#include "klein/hub/listing.h"

#include <vector>

#include <fmt/format.h>

#include "klein/core/error.h"
#include "klein/hub/names.h"
#include "klein/io/json.h"
#include "klein/io/text.h"

namespace klein::hub {
namespace {

constexpr std::uint64_t kMaxFileBytes = std::uint64_t{1} << 50;

[[noreturn]] void refuse(const std::string& expected, const std::string& got,
                         const std::string& repo) {
  throw Error(ErrorKind::format, fmt::format("expected {} from the hub, got {}: {}", expected,
                                             io::in_quotes(got), repo));
}

RepoFile file_from(const io::JsonReader& json, const std::string& name, const std::string& repo) {
  RepoFile file;
  if (json.has("lfs")) {
    const auto lfs = json.child("lfs");
    lfs.require("sha256", file.etag);
    lfs.require("size", file.bytes);
  } else {
    json.require("blobId", file.etag);
    json.require("size", file.bytes);
  }
  if (!is_etag(file.etag)) refuse("the checksum of " + io::printable(name), file.etag, repo);
  if (file.bytes > kMaxFileBytes)
    refuse("the size of " + io::printable(name), std::to_string(file.bytes), repo);
  return file;
}

}  // namespace

Listing parse_listing(std::string_view text, const std::string& repo) {
  const auto where = "answer of the hub about " + repo;
  const auto json = io::parse_json(text, where);
  const io::JsonReader reader(json, where);
  Listing listing;
  reader.require("sha", listing.commit);
  if (!is_commit(listing.commit)) refuse("a commit of 40 hex digits", listing.commit, repo);
  std::vector<nlohmann::json> siblings;
  reader.require("siblings", siblings);
  for (const auto& sibling : siblings) {
    const io::JsonReader entry(sibling, where);
    std::string name;
    entry.require("rfilename", name);
    if (!is_inside(name)) refuse("names of files inside of a folder", name, repo);
    listing.files[name] = file_from(entry, name, repo);
  }
  return listing;
}

}  // namespace klein::hub
