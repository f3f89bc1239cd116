#include "klein/hub/names.h"

#include <algorithm>
#include <cctype>

namespace klein::hub {
namespace {

constexpr std::size_t kMaxPart = 96;       // of a repository's name, as the hub has it
constexpr std::size_t kMaxFileName = 255;  // bytes, as file systems have it
constexpr std::size_t kMaxPath = 1024;

bool is_alphanumeric(char c) {
  return std::isalnum(static_cast<unsigned char>(c)) != 0;
}

bool is_repo_part(std::string_view part) {
  if (part.empty() || part.size() > kMaxPart) return false;
  const auto is_edge = [](char c) { return is_alphanumeric(c) || c == '_'; };
  return is_edge(part.front()) && is_edge(part.back()) &&
         std::ranges::all_of(part, [&](char c) { return is_edge(c) || c == '-' || c == '.'; });
}

bool is_hex(std::string_view text, std::size_t digits) {
  return text.size() == digits && std::ranges::all_of(text, [](char c) {
           return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'f');
         });
}

}  // namespace

bool is_repo_id(std::string_view text) {
  const auto slash = text.find('/');
  return slash != text.npos && is_repo_part(text.substr(0, slash)) &&
         is_repo_part(text.substr(slash + 1)) && text.find("--") == text.npos &&
         text.find("..") == text.npos && !text.ends_with(".git");
}

bool is_commit(std::string_view text) {
  return is_hex(text, 40);
}

bool is_etag(std::string_view text) {
  return is_hex(text, 40) || is_hex(text, 64);
}

bool is_inside(std::string_view path) {
  if (path.empty() || path.size() > kMaxPath) return false;
  if (std::ranges::any_of(path, [](unsigned char c) { return c < ' ' || c == 127 || c == '\\'; }))
    return false;
  for (std::size_t begin = 0; begin <= path.size();) {
    const auto end = std::min(path.find('/', begin), path.size());
    const auto part = path.substr(begin, end - begin);
    if (part.empty() || part == "." || part == ".." || part.size() > kMaxFileName) return false;
    begin = end + 1;
  }
  return true;
}

}  // namespace klein::hub
