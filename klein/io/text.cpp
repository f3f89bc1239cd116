#include "klein/io/text.h"

#include <cstdint>

#include <fmt/format.h>

namespace klein::io {

namespace {

constexpr std::uint32_t kEndOfC1Controls = 0x9f;  // U+0080..U+009F steer terminals too

struct Character {
  std::size_t length = 0;  // 0 when the bytes are not UTF-8
  std::uint32_t code = 0;
};

Character first_character(std::string_view text) {
  const auto byte = [&](std::size_t i) { return static_cast<unsigned char>(text[i]); };
  if (text.empty()) return {};
  const unsigned lead = byte(0);
  if (lead < 0x80) return {1, lead};
  const std::size_t length = lead >= 0xf0 ? 4 : lead >= 0xe0 ? 3 : 2;
  if (lead < 0xc2 || lead > 0xf4 || text.size() < length) return {};
  std::uint32_t code = lead & (0x7fu >> length);
  for (std::size_t i = 1; i < length; ++i) {
    if ((byte(i) & 0xc0u) != 0x80) return {};
    code = (code << 6) | (byte(i) & 0x3fu);
  }
  const bool overlong = (length == 3 && code < 0x800) || (length == 4 && code < 0x10000);
  const bool surrogate = code >= 0xd800 && code <= 0xdfff;
  if (overlong || surrogate || code > 0x10ffff) return {};
  return {length, code};
}

bool is_bidi_control(std::uint32_t code) {
  return (code >= 0x202a && code <= 0x202e) || (code >= 0x2066 && code <= 0x2069);
}

std::string escaped(const Character& c, char first) {
  if (c.length == 0) return fmt::format("\\x{:02x}", static_cast<unsigned char>(first));
  if (c.code == '\n') return "\\n";
  if (c.code == '\t') return "\\t";
  if (c.code < 0x80) return fmt::format("\\x{:02x}", c.code);
  return fmt::format("\\u{:04x}", c.code);
}

}  // namespace

std::size_t utf8_length(std::string_view text) {
  return first_character(text).length;
}

std::string printable(std::string_view text, std::size_t max_bytes) {
  std::string out;
  while (!text.empty()) {
    if (out.size() >= max_bytes) return out + "...";
    const Character c = first_character(text);
    const bool control = c.code < 0x20 || (c.code >= 0x7f && c.code <= kEndOfC1Controls);
    if (c.length == 0 || control || is_bidi_control(c.code))
      out += escaped(c, text.front());
    else
      out += text.substr(0, c.length);
    text.remove_prefix(c.length == 0 ? 1 : c.length);
  }
  return out;
}

std::string in_quotes(std::string_view text, std::size_t max_bytes) {
  return '"' + printable(text, max_bytes) + '"';
}

}  // namespace klein::io
