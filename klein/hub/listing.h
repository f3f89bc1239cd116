#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <string_view>

namespace klein::hub {

/// One file of a repository, as the hub tells of it.
struct RepoFile {
  std::string etag;  ///< SHA-256 of a large file, git's name of a small one; see Digest.
  std::uint64_t bytes = 0;
};

/// What a repository holds at one commit.
struct Listing {
  std::string commit;
  std::map<std::string, RepoFile> files;  ///< By their names, which all stay inside of a folder.
};

/// The hub's answer about a revision of `repo`.
///
/// Errors   Error(format) for an answer that is none, and for names, commits, checksums and sizes
///          that cannot be true: they become paths on this machine
Listing parse_listing(std::string_view json, const std::string& repo);

}  // namespace klein::hub
