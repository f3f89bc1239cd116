#include "klein/hub/http.h"

#include <algorithm>
#include <cctype>
#include <charconv>
#include <exception>
#include <mutex>

#include <curl/curl.h>
#include <fmt/format.h>

#include "klein/core/error.h"
#include "klein/io/text.h"

namespace klein::hub {
namespace {

constexpr int kMaxRedirects = 10;
constexpr std::size_t kMaxBodyBytes = std::size_t{32} << 20;
constexpr std::size_t kMaxHeaders = 200;
constexpr long kConnectSecs = 15;
constexpr long kSilenceSecs = 30;  // without a byte: the connection is taken for broken

void prepare_curl() {
  static std::once_flag once;  // NOLINT: the library's own rule is once per process
  std::call_once(once, [] { curl_global_init(CURL_GLOBAL_DEFAULT); });
}

std::string trimmed(std::string_view text) {
  constexpr std::string_view blanks = " \t\r\n";
  const auto first = text.find_first_not_of(blanks);
  if (first == text.npos) return {};
  return std::string(text.substr(first, text.find_last_not_of(blanks) - first + 1));
}

using Url = std::unique_ptr<CURLU, decltype(&curl_url_cleanup)>;

Url parsed(const std::string& text) {
  Url url(curl_url(), &curl_url_cleanup);
  if (curl_url_set(url.get(), CURLUPART_URL, text.c_str(), 0) != CURLUE_OK)
    throw Error(ErrorKind::io,
                fmt::format("expected an address of the hub, got {}", io::in_quotes(text, 200)));
  return url;
}

std::string part(const Url& url, CURLUPart which) {
  char* text = nullptr;
  if (curl_url_get(url.get(), which, &text, CURLU_DEFAULT_PORT) != CURLUE_OK) return {};
  std::string result(text);
  curl_free(text);
  return result;
}

/// Scheme, host and port: who gets to see a token.
std::string origin(const std::string& url) {
  const auto u = parsed(url);
  return part(u, CURLUPART_SCHEME) + "://" + part(u, CURLUPART_HOST) + ":" +
         part(u, CURLUPART_PORT);
}

/// The address that a redirect leads to from `url`.
std::string redirected(const std::string& url, const std::string& location) {
  const auto u = parsed(url);
  const auto before = part(u, CURLUPART_SCHEME);
  const bool is_valid =
      !location.empty() && curl_url_set(u.get(), CURLUPART_URL, location.c_str(), 0) == CURLUE_OK;
  const auto scheme = part(u, CURLUPART_SCHEME);
  const bool is_allowed = scheme == "https" || (scheme == "http" && before == "http");
  if (!is_valid || !is_allowed)
    throw Error(ErrorKind::io, fmt::format("expected a redirect to an {} address, got {}: {}",
                                           before, io::in_quotes(location, 200), url));
  return part(u, CURLUPART_URL);
}

bool is_redirect(long status) {
  return status == 301 || status == 302 || status == 303 || status == 307 || status == 308;
}

}  // namespace

std::string HttpResponse::header(const std::string& name) const {
  const auto found = headers.find(name);
  return found == headers.end() ? std::string() : found->second;
}

/// What the C library's callbacks see of one answer.
struct HttpClient::Transfer {
  HttpResponse& response;
  const MayGoOn& may_go_on;
  const Sink& sink;
  CURL* handle;
  std::exception_ptr thrown = {};
  bool is_stopped = false;

  static std::size_t on_header(char* text, std::size_t, std::size_t size, void* self) {
    auto& headers = static_cast<Transfer*>(self)->response.headers;
    const std::string_view line(text, size);
    if (line.starts_with("HTTP/")) headers.clear();  // what came before was "100 Continue"
    const auto colon = line.find(':');
    if (colon == line.npos || headers.size() >= kMaxHeaders) return size;
    std::string name(line.substr(0, colon));
    std::ranges::transform(name, name.begin(), [](unsigned char c) { return std::tolower(c); });
    headers[name] = trimmed(line.substr(colon + 1));
    return size;
  }

  static std::size_t on_body(char* data, std::size_t, std::size_t size, void* self) {
    auto& transfer = *static_cast<Transfer*>(self);
    try {
      return transfer.take({reinterpret_cast<const std::byte*>(data), size}) ? size : 0;
    } catch (...) {
      transfer.thrown = std::current_exception();  // it must not cross the C library
      return 0;
    }
  }

  static int on_progress(void* self, curl_off_t, curl_off_t, curl_off_t, curl_off_t) {
    auto& transfer = *static_cast<Transfer*>(self);
    transfer.is_stopped = !transfer.may_go_on();
    return transfer.is_stopped ? 1 : 0;
  }

  bool take(std::span<const std::byte> bytes) {
    curl_easy_getinfo(handle, CURLINFO_RESPONSE_CODE, &response.status);
    if (is_redirect(response.status)) return true;
    if (response.first_headers.empty()) response.first_headers = response.headers;
    const bool is_success = response.status >= 200 && response.status < 300;
    if (is_success && sink) return sink(response, bytes);
    if (response.body.size() + bytes.size() > kMaxBodyBytes) return false;
    response.body.append(reinterpret_cast<const char*>(bytes.data()), bytes.size());
    return true;
  }
};

struct HttpClient::Impl {
  CURL* handle = curl_easy_init();

  Impl() {
    if (handle == nullptr) throw Error(ErrorKind::internal, "libcurl refused to work");
  }
  Impl(const Impl&) = delete;
  Impl& operator=(const Impl&) = delete;
  ~Impl() { curl_easy_cleanup(handle); }

  template <typename Value>
  void set(CURLoption option, Value value) {
    if (curl_easy_setopt(handle, option, value) != CURLE_OK)
      throw Error(ErrorKind::internal, fmt::format("libcurl refused option {}", int{option}));
  }

  /// One answer, which may be a redirect.
  void perform(const std::string& url, const HttpRequest& request, bool with_token, Transfer& t) {
    curl_easy_reset(handle);  // connections stay open
    using List = std::unique_ptr<curl_slist, decltype(&curl_slist_free_all)>;
    List headers(nullptr, &curl_slist_free_all);
    if (with_token)
      headers.reset(curl_slist_append(nullptr, ("Authorization: Bearer " + request.token).c_str()));
    const auto range = fmt::format("{}-", request.offset);
    set(CURLOPT_URL, url.c_str());
    set(CURLOPT_USERAGENT, "klein/" KLEIN_VERSION);
    set(CURLOPT_HTTPHEADER, headers.get());
    if (request.offset > 0) set(CURLOPT_RANGE, range.c_str());
    set(CURLOPT_NOSIGNAL, 1L);
    set(CURLOPT_CONNECTTIMEOUT, kConnectSecs);
    set(CURLOPT_LOW_SPEED_LIMIT, 1L);
    set(CURLOPT_LOW_SPEED_TIME, kSilenceSecs);
    set(CURLOPT_NOPROGRESS, 0L);
    set(CURLOPT_XFERINFODATA, &t);
    set(CURLOPT_XFERINFOFUNCTION, &Transfer::on_progress);
    set(CURLOPT_HEADERDATA, &t);
    set(CURLOPT_HEADERFUNCTION, &Transfer::on_header);
    set(CURLOPT_WRITEDATA, &t);
    set(CURLOPT_WRITEFUNCTION, &Transfer::on_body);
    const CURLcode code = curl_easy_perform(handle);
    if (t.thrown) std::rethrow_exception(t.thrown);
    if (t.is_stopped) throw Error(ErrorKind::cancelled, "stopped on request");
    curl_easy_getinfo(handle, CURLINFO_RESPONSE_CODE, &t.response.status);
    if (code == CURLE_OK) return;
    t.response.failure = curl_easy_strerror(code);
    t.response.is_unreachable =
        code == CURLE_COULDNT_CONNECT || code == CURLE_COULDNT_RESOLVE_HOST ||
        code == CURLE_COULDNT_RESOLVE_PROXY || code == CURLE_SSL_CONNECT_ERROR ||
        code == CURLE_PEER_FAILED_VERIFICATION || code == CURLE_URL_MALFORMAT;
  }
};

HttpClient::HttpClient() {
  prepare_curl();
  impl_ = std::make_unique<Impl>();
}

HttpClient::~HttpClient() = default;

HttpResponse HttpClient::get(const HttpRequest& request, const MayGoOn& may_go_on,
                             const Sink& sink) {
  std::string url = request.url;
  Headers first_headers;
  const auto home = request.token.empty() ? std::string() : origin(url);
  for (int hop = 0; hop <= kMaxRedirects; ++hop) {
    HttpResponse response{.first_headers = first_headers};
    Transfer transfer{response, may_go_on, sink, impl_->handle};
    impl_->perform(url, request, !request.token.empty() && origin(url) == home, transfer);
    if (hop == 0) first_headers = response.first_headers = response.headers;
    if (!response.failure.empty() || !is_redirect(response.status)) return response;
    url = redirected(url, response.header("location"));
  }
  throw Error(ErrorKind::io, fmt::format("expected an answer after at most {} redirects, got "
                                         "another one: {}",
                                         kMaxRedirects, request.url));
}

std::string percent_encoded(std::string_view text, bool keep_slashes) {
  std::string result;
  for (const char c : text) {
    const bool is_plain = std::isalnum(static_cast<unsigned char>(c)) != 0 || c == '-' ||
                          c == '_' || c == '.' || c == '~' || (c == '/' && keep_slashes);
    if (is_plain)
      result += c;
    else
      result += fmt::format("%{:02X}", static_cast<unsigned char>(c));
  }
  return result;
}

std::optional<double> retry_after(const HttpResponse& response) {
  const auto text = response.header("retry-after");
  double secs = 0.0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), secs);
  if (error != std::errc() || !(secs >= 0.0)) return std::nullopt;
  return secs;
}

}  // namespace klein::hub
