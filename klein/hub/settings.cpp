#include "klein/hub/settings.h"

#include <algorithm>
#include <array>
#include <cctype>
#include <cstdlib>
#include <system_error>

#include <fmt/format.h>

#include "klein/core/error.h"
#include "klein/io/file.h"
#include "klein/io/text.h"

namespace klein::hub {
namespace {

namespace fs = std::filesystem;

constexpr std::uint64_t kMaxTokenBytes = 4096;

std::string value_of(const Environment& environment, const char* name) {
  const char* value = environment(name);
  return value == nullptr ? std::string() : std::string(value);
}

bool is_name_char(char c) {
  return std::isalnum(static_cast<unsigned char>(c)) != 0 || c == '_';
}

/// `$NAME` and `${NAME}` become their values; an unknown name stays as it is written.
std::string with_variables(const std::string& text, const Environment& environment) {
  std::string result;
  for (std::size_t i = 0; i < text.size();) {
    if (text[i] != '$') {
      result += text[i++];
      continue;
    }
    const bool is_braced = i + 1 < text.size() && text[i + 1] == '{';
    const std::size_t begin = i + (is_braced ? 2 : 1);
    std::size_t end = begin;
    while (end < text.size() && is_name_char(text[end])) ++end;
    const bool is_closed = !is_braced || (end < text.size() && text[end] == '}');
    const char* value =
        end > begin && is_closed ? environment(text.substr(begin, end - begin).c_str()) : nullptr;
    const std::size_t next = is_braced && is_closed ? end + 1 : end;
    result += value != nullptr ? std::string(value) : text.substr(i, std::max(next, i + 1) - i);
    i = std::max(next, i + 1);
  }
  return result;
}

fs::path folder_from(const std::string& text, const Environment& environment) {
  return with_home(with_variables(text, environment), environment);
}

bool is_true(std::string text) {
  std::ranges::transform(text, text.begin(), [](unsigned char c) { return std::toupper(c); });
  constexpr std::array words = {"1", "ON", "YES", "TRUE"};
  return std::ranges::find(words, text) != words.end();
}

std::string stripped(const std::string& text) {
  constexpr const char* kBlanks = " \t\r\n";
  const auto first = text.find_first_not_of(kBlanks);
  if (first == text.npos) return {};
  return text.substr(first, text.find_last_not_of(kBlanks) - first + 1);
}

void read_token(Settings& settings, const fs::path& file, const Environment& environment) {
  settings.token = stripped(value_of(environment, "HF_TOKEN"));
  settings.token_source = "HF_TOKEN";
  std::error_code error;
  if (settings.token.empty() && fs::exists(file, error)) {
    settings.token = stripped(io::read_text(file, kMaxTokenBytes));
    settings.token_source = file.string();
  }
  if (settings.token.empty()) settings.token_source.clear();
  // It becomes a line of a request, where a line break would begin another one.
  if (std::ranges::any_of(settings.token, [](unsigned char c) { return c <= ' ' || c >= 127; }))
    throw Error(ErrorKind::usage,
                fmt::format("expected a token of the Hugging Face hub, got a text with blanks or "
                            "other characters that none has: {}",
                            settings.token_source),
                "Copy the token anew from https://huggingface.co/settings/tokens.");
}

}  // namespace

fs::path with_home(const std::string& path, const Environment& environment) {
  if (path != "~" && !path.starts_with("~/")) return path;
  const auto home = value_of(environment, "HOME");
  return home.empty() ? fs::path(path) : fs::path(home + path.substr(1));
}

Settings settings_from(const Environment& environment) {
  const auto first_of = [&](std::initializer_list<const char*> names) {
    for (const char* name : names)
      if (auto value = value_of(environment, name); !value.empty()) return value;
    return std::string();
  };
  Settings settings;
  auto home = value_of(environment, "HF_HOME");
  if (home.empty()) {
    auto caches = value_of(environment, "XDG_CACHE_HOME");
    home = (caches.empty() ? "~/.cache" : caches) + "/huggingface";
  }
  const auto hf_home = folder_from(home, environment);
  const auto cache = first_of({"HF_HUB_CACHE", "HUGGINGFACE_HUB_CACHE"});
  settings.cache = cache.empty() ? hf_home / "hub" : folder_from(cache, environment);

  if (auto endpoint = value_of(environment, "HF_ENDPOINT"); !endpoint.empty()) {
    while (endpoint.ends_with('/')) endpoint.pop_back();
    if (!endpoint.starts_with("http://") && !endpoint.starts_with("https://"))
      throw Error(ErrorKind::usage,
                  fmt::format("expected HF_ENDPOINT to begin with https:// or http://, got {}",
                              io::in_quotes(endpoint)));
    settings.endpoint = endpoint;
  }
  const auto token_path = value_of(environment, "HF_TOKEN_PATH");
  read_token(settings,
             token_path.empty() ? hf_home / "token" : folder_from(token_path, environment),
             environment);
  settings.is_offline = is_true(first_of({"HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE"}));
  return settings;
}

Settings settings_from_environment() {
  return settings_from([](const char* name) { return std::getenv(name); });
}

}  // namespace klein::hub
