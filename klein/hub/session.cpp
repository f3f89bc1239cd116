#include "klein/hub/session.h"

#include <algorithm>
#include <array>
#include <chrono>
#include <thread>
#include <utility>

#include <fmt/format.h>

#include "klein/core/error.h"
#include "klein/hub/blob_file.h"
#include "klein/hub/names.h"
#include "klein/io/text.h"

namespace klein::hub {
namespace {

constexpr std::uint64_t kMaxTextBytes = std::uint64_t{32} << 20;
constexpr int kTries = 5;
constexpr int kTriesUnreachable = 2;
constexpr double kFirstPauseSecs = 0.5;  // doubled after every try
constexpr double kMaxPauseSecs = 120.0;  // who has to wait longer is told so instead

bool is_success(long status) {
  return status >= 200 && status < 300;
}

bool may_pass(long status) {
  constexpr std::array passing = {408L, 429L, 500L, 502L, 503L, 504L};
  return std::ranges::find(passing, status) != passing.end();
}

/// An ETag header without the marks around its value.
std::string bare(std::string etag) {
  if (etag.starts_with("W/")) etag.erase(0, 2);
  std::erase(etag, '"');
  return etag;
}

std::string header_of(const Headers& headers, const char* name) {
  const auto found = headers.find(name);
  return found == headers.end() ? std::string() : found->second;
}

}  // namespace

Session::Session(const Settings& settings, const std::string& repo, const MayGoOn& may_go_on)
    : settings_(settings), repo_(repo), may_go_on_(may_go_on) {}

Listing Session::list(const std::string& revision) {
  const auto url = fmt::format("{}/api/models/{}/revision/{}?blobs=true", settings_.endpoint, repo_,
                               percent_encoded(revision, false));
  for (int attempt = 1;; ++attempt) {
    const auto response = client_.get({.url = url, .token = settings_.token}, may_go_on_);
    if (response.failure.empty() && is_success(response.status))
      return parse_listing(response.body, repo_);
    recover(response, attempt, fmt::format("the revision {}", io::in_quotes(revision)));
  }
}

std::string Session::address_of(const Listing& listing, const std::string& name) const {
  return fmt::format("{}/{}/resolve/{}/{}", settings_.endpoint, repo_, listing.commit,
                     percent_encoded(name, true));
}

std::string Session::read(const Listing& listing, const std::string& name) {
  const auto& file = listing.files.at(name);
  if (file.bytes > kMaxTextBytes)
    throw Error(ErrorKind::format, fmt::format("expected a file of at most {} bytes, got {}: {}/{}",
                                               kMaxTextBytes, file.bytes, repo_, name));
  const auto url = address_of(listing, name);
  for (int attempt = 1;; ++attempt) {
    auto response = client_.get({.url = url, .token = settings_.token}, may_go_on_);
    if (response.failure.empty() && is_success(response.status)) return std::move(response.body);
    recover(response, attempt, "the file " + io::printable(name));
  }
}

void Session::download(const Listing& listing, const std::string& name, const RepoCache& cache,
                       const std::function<void(std::int64_t)>& on_bytes) {
  const auto& file = listing.files.at(name);
  const auto url = address_of(listing, name);
  BlobFile blob(cache.incomplete(file.etag), file, may_go_on_);
  const auto restart = [&] {
    on_bytes(-static_cast<std::int64_t>(blob.size()));
    blob.restart();
  };
  bool was_wrong = false;
  const auto begin_again = [&] {
    if (std::exchange(was_wrong, true))
      throw Error(ErrorKind::io,
                  fmt::format("expected a file of {} bytes with the checksum {}, got another one "
                              "twice: {}/{}",
                              file.bytes, file.etag, repo_, io::printable(name)),
                  "The repository may have changed, or something on the way changes files; run the "
                  "command again.");
    restart();
  };
  for (int attempt = 1;; ++attempt) {
    if (blob.is_whole() && blob.is_right()) break;
    if (blob.is_whole()) begin_again();
    const auto before = blob.size();
    bool is_begun = false, is_elsewhere = false, is_too_long = false;
    auto response = client_.get(
        {.url = url, .token = settings_.token, .offset = before}, may_go_on_,
        [&](const HttpResponse& head, std::span<const std::byte> bytes) {
          if (!std::exchange(is_begun, true)) {
            expect_unchanged(head, listing, name);
            is_elsewhere =
                head.status == 206 &&
                !head.header("content-range").starts_with(fmt::format("bytes {}-", before));
            if (head.status != 206 && before > 0) restart();  // it sends the whole file again
          }
          is_too_long = blob.size() + bytes.size() > file.bytes;
          if (is_elsewhere || is_too_long) return false;
          blob.add(bytes);
          on_bytes(static_cast<std::int64_t>(bytes.size()));
          return true;
        });
    if (is_too_long) begin_again();
    if (is_elsewhere || response.status == 416) restart();
    if (blob.is_whole()) continue;
    if (blob.size() > before) attempt = 1;  // it moves
    if (response.failure.empty() && (is_success(response.status) || response.status == 416))
      response.failure = "the answer ended early";
    recover(response, attempt, "the file " + io::printable(name));
  }
  blob.commit(cache.blob(file.etag));
}

/// The listing was taken at a commit, which never changes; a hub that says otherwise has another
/// file than the one that was asked for.
void Session::expect_unchanged(const HttpResponse& head, const Listing& listing,
                               const std::string& name) const {
  const auto& headers = head.first_headers;
  const auto commit = header_of(headers, "x-repo-commit");
  const auto linked = bare(header_of(headers, "x-linked-etag"));
  const auto etag = linked.empty() ? bare(header_of(headers, "etag")) : linked;
  const auto& expected = listing.files.at(name).etag;
  const bool is_other_commit = !commit.empty() && commit != listing.commit;
  // A server between here and the hub may have an ETag of its own kind.
  const bool is_other_file = is_etag(etag) && etag.size() == expected.size() && etag != expected;
  if (is_other_commit || is_other_file)
    throw Error(
        ErrorKind::io,
        fmt::format("expected the file as it was listed ({}), got a newer one ({}): {}/{}",
                    is_other_commit ? listing.commit : expected,
                    io::printable(is_other_commit ? commit : etag), repo_, io::printable(name)),
        "The repository changed during the download; run the command again.");
}

/// Waits before the next try, or throws what the answer means when there should be none.
void Session::recover(const HttpResponse& response, int attempt, const std::string& what) {
  const bool is_broken = !response.failure.empty();
  const int tries = response.is_unreachable ? kTriesUnreachable : kTries;
  const double asked_secs = retry_after(response).value_or(0.0);
  const bool is_hopeless = !is_broken && !may_pass(response.status);
  if (is_hopeless || attempt >= tries || asked_secs > kMaxPauseSecs) refuse(response, what);
  pause(std::max(asked_secs, kFirstPauseSecs * (1 << (attempt - 1))));
}

void Session::pause(double secs) {
  using Clock = std::chrono::steady_clock;
  const auto end = Clock::now() + std::chrono::duration<double>(secs);
  while (Clock::now() < end) {
    if (!may_go_on_()) throw Error(ErrorKind::cancelled, "stopped on request");
    std::this_thread::sleep_for(std::chrono::milliseconds(50));
  }
}

void Session::refuse(const HttpResponse& response, const std::string& what) const {
  if (response.is_unreachable)
    throw Error(ErrorKind::io,
                fmt::format("cannot reach the hub for {} ({}): {}", repo_, response.failure,
                            settings_.endpoint),
                "Check the network and HF_ENDPOINT; what is in the cache already needs neither.");
  if (!response.failure.empty())
    throw Error(ErrorKind::io,
                fmt::format("the connection to the hub broke off {} times ({}): {}", kTries,
                            response.failure, repo_),
                "Run the command again: it goes on where it stopped.");
  if (response.status == 401 || response.status == 403) refuse_access(response);
  const auto code = response.header("x-error-code");
  if (response.status == 404 && (code == "RevisionNotFound" || code == "EntryNotFound"))
    throw Error(ErrorKind::not_found,
                fmt::format("expected {} in the repository, found none: {}", what, repo_));
  if (response.status == 404)
    throw Error(ErrorKind::not_found,
                fmt::format("expected a repository of the hub, found none: {}", repo_),
                fmt::format("Check the name at {}/models.", settings_.endpoint));
  if (response.status == 429)
    throw Error(ErrorKind::io,
                fmt::format("the hub refuses more requests for the next {:.0f} seconds (429): {}",
                            retry_after(response).value_or(60.0), repo_),
                "Wait, or set HF_TOKEN: the hub allows more to those it knows.");
  throw Error(ErrorKind::io, fmt::format("expected an answer of the hub, got status {}: {}",
                                         response.status, repo_));
}

void Session::refuse_access(const HttpResponse& response) const {
  const bool is_gated = response.header("x-error-code") == "GatedRepo";
  const bool has_token = !settings_.token.empty();
  const auto tokens = settings_.endpoint + "/settings/tokens";
  const auto page = fmt::format("{}/{}", settings_.endpoint, repo_);
  const auto got =
      has_token ? fmt::format("{} for the token in {}", response.status, settings_.token_source)
                : fmt::format("{} without a token", response.status);
  if (is_gated)
    throw Error(
        ErrorKind::io, fmt::format("expected access to a gated repository, got {}: {}", got, repo_),
        has_token ? fmt::format("Accept the licence at {} with the account of that token, and let "
                                "the token read gated repositories.",
                                page)
                  : fmt::format("Accept the licence at {}, then set HF_TOKEN to a token from {}.",
                                page, tokens));
  if (!has_token)
    throw Error(ErrorKind::not_found,
                fmt::format("expected a public repository, got {}: {}", got, repo_),
                fmt::format("Check the name; a private repository needs HF_TOKEN, a token from {}.",
                            tokens));
  if (response.status == 401)
    throw Error(
        ErrorKind::io, fmt::format("expected a valid token, got {}: {}", got, repo_),
        fmt::format("Make a new one at {}, or remove it: public repositories need none.", tokens));
  throw Error(ErrorKind::io,
              fmt::format("expected access to the repository, got {}: {}", got, repo_),
              fmt::format("See what the token may read at {}.", tokens));
}

}  // namespace klein::hub
