#pragma once

#include <functional>
#include <string>

#include "klein/hub/cache.h"
#include "klein/hub/http.h"
#include "klein/hub/listing.h"
#include "klein/hub/settings.h"

namespace klein::hub {

/// Talks with the hub about one repository.
///
/// Refusals become errors that say what to do: Error(io) for a gated repository, a bad token, a
/// hub that cannot be reached or is too busy; Error(not_found) for what it does not have.
/// Failures that may pass (no answer, broken connections, 429, 5xx) are tried again a few times.
///
/// Thread   one at a time
class Session {
 public:
  Session(const Settings& settings, const std::string& repo, const MayGoOn& may_go_on);

  /// What the repository holds.
  Listing list(const std::string& revision);

  /// The text of a small file, which does not go to the cache.
  ///
  /// Errors   also Error(format) for a file that is too large
  std::string read(const Listing& listing, const std::string& name);

  /// Brings one file into the cache as a blob of the right size and checksum; goes on where an
  /// earlier download stopped. The caller has the blob's lock.
  ///
  /// `on_bytes` hears of every piece; a negative number takes bytes back.
  ///
  /// Errors   also Error(io) when the file is not what the listing promised, and when the disk is
  ///          full
  void download(const Listing& listing, const std::string& name, const RepoCache& cache,
                const std::function<void(std::int64_t)>& on_bytes);

 private:
  std::string address_of(const Listing& listing, const std::string& name) const;
  void recover(const HttpResponse& response, int attempt, const std::string& what);
  void pause(double secs);
  [[noreturn]] void refuse(const HttpResponse& response, const std::string& what) const;
  [[noreturn]] void refuse_access(const HttpResponse& response) const;
  void expect_unchanged(const HttpResponse& head, const Listing& listing,
                        const std::string& name) const;

  const Settings& settings_;
  const std::string& repo_;
  const MayGoOn& may_go_on_;
  HttpClient client_;
};

}  // namespace klein::hub
