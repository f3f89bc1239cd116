#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>

#include "klein/hub/cache.h"

namespace klein::hub {

/// Names in lower case.
using Headers = std::map<std::string, std::string>;

struct HttpRequest {
  std::string url;
  std::string token = {};    ///< Sent to the host of `url` and to no other that it redirects to.
  std::uint64_t offset = 0;  ///< Ask for the bytes from here on.
};

struct HttpResponse {
  long status = 0;              ///< 0 where there was no whole answer.
  Headers first_headers = {};   ///< Of the host that was asked.
  Headers headers = {};         ///< Of the host that answered in the end.
  std::string body = {};        ///< Where it did not go to the sink.
  std::string failure = {};     ///< Why there is no whole answer; empty where there is one.
  bool is_unreachable = false;  ///< The failure: no connection at all.

  std::string header(const std::string& name) const;
};

/// Where the bytes of a successful answer go; false ends the transfer.
using Sink = std::function<bool(const HttpResponse& head, std::span<const std::byte>)>;

/// Asks a server, following redirects.
///
/// Thread   one at a time
class HttpClient {
 public:
  HttpClient();
  HttpClient(const HttpClient&) = delete;
  HttpClient& operator=(const HttpClient&) = delete;
  ~HttpClient();

  /// The answer to one GET. Without a sink, or where the answer is no success, its body is kept, up
  /// to a limit.
  ///
  /// Errors   Error(cancelled) once `may_go_on` says no; what the sink throws; Error(io) for a
  ///          redirect that leads nowhere, to another protocol, or on and on
  HttpResponse get(const HttpRequest& request, const MayGoOn& may_go_on, const Sink& sink = {});

 private:
  struct Transfer;
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

/// `text` as a part of an address; slashes stay where `keep_slashes`.
std::string percent_encoded(std::string_view text, bool keep_slashes);

/// Seconds that an answer asks to wait before the next try, if it does.
std::optional<double> retry_after(const HttpResponse& response);

}  // namespace klein::hub
