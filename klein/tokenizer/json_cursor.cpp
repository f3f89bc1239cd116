#include "klein/tokenizer/json_cursor.h"

#include <fmt/format.h>

#include "klein/core/error.h"
#include "klein/io/text.h"

namespace klein::tokenizer {
namespace {

bool is_space(char c) {
  return c == ' ' || c == '\n' || c == '\r' || c == '\t';
}
bool is_digit(char c) {
  return c >= '0' && c <= '9';
}
bool ends_scalar(char c) {
  return c == ',' || c == ']' || c == '}' || c == ':' || is_space(c);
}

// Neither the end of a string nor anything that has to be decoded or checked.
bool is_plain(char c) {
  const auto byte = static_cast<unsigned char>(c);
  return byte >= 0x20 && byte < 0x80 && c != '"' && c != '\\';
}

void append_utf8(std::string& text, std::uint32_t c) {
  const auto tail = [&](int shift) { text += static_cast<char>(0x80 | ((c >> shift) & 0x3F)); };
  if (c < 0x80) {
    text += static_cast<char>(c);
  } else if (c < 0x800) {
    text += static_cast<char>(0xC0 | (c >> 6));
    tail(0);
  } else if (c < 0x10000) {
    text += static_cast<char>(0xE0 | (c >> 12));
    tail(6);
    tail(0);
  } else {
    text += static_cast<char>(0xF0 | (c >> 18));
    tail(12);
    tail(6);
    tail(0);
  }
}

}  // namespace

void JsonCursor::fail() const {
  throw Error(ErrorKind::format,
              fmt::format("expected JSON, got an error at byte {}: {}", at_, path_.string()));
}

char JsonCursor::peek() {
  while (at_ < text_.size() && is_space(text_[at_])) ++at_;
  return at_ < text_.size() ? text_[at_] : '\0';
}

bool JsonCursor::take(char expected) {
  if (peek() != expected || at_ == text_.size()) return false;
  ++at_;
  return true;
}

bool JsonCursor::next_element(char bracket, bool is_first) {
  if (take(bracket)) return false;
  if (!is_first && !take(',')) fail();
  return true;
}

std::string_view JsonCursor::string() {
  if (!take('"')) fail();
  const std::size_t begin = at_;
  for (; at_ < text_.size(); ++at_) {
    const char c = text_[at_];
    if (is_plain(c)) continue;
    if (c == '"') return text_.substr(begin, at_++ - begin);
    if (c == '\\') break;
    const std::size_t length = io::utf8_length(text_.substr(at_));
    if (length < 2) fail();  // Broken UTF-8 or a control character.
    at_ += length - 1;
  }
  scratch_ = text_.substr(begin, at_ - begin);
  return decoded_string();
}

std::string_view JsonCursor::decoded_string() {
  while (at_ < text_.size()) {
    const char c = text_[at_];
    if (c == '"') {
      ++at_;
      return scratch_;
    }
    if (c == '\\') {
      decode_escape();
      continue;
    }
    const std::size_t length = is_plain(c) ? 1 : io::utf8_length(text_.substr(at_));
    if (length == 0 || static_cast<unsigned char>(c) < 0x20) fail();
    scratch_ += text_.substr(at_, length);
    at_ += length;
  }
  fail();
}

void JsonCursor::decode_escape() {
  constexpr std::string_view kNames = "\"\\/bfnrt";
  constexpr std::string_view kMeanings = "\"\\/\b\f\n\r\t";
  ++at_;
  const char name = at_ < text_.size() ? text_[at_] : '\0';
  if (name != 'u') {
    const std::size_t index = name == '\0' ? std::string_view::npos : kNames.find(name);
    if (index == std::string_view::npos) fail();
    scratch_ += kMeanings[index];
    ++at_;
    return;
  }
  ++at_;
  std::uint32_t c = hex4();
  if (c >= 0xDC00 && c < 0xE000) fail();
  if (c >= 0xD800 && c < 0xDC00) {
    if (text_.substr(at_, 2) != "\\u") fail();
    at_ += 2;
    const std::uint32_t low = hex4();
    if (low < 0xDC00 || low >= 0xE000) fail();
    c = 0x10000 + ((c - 0xD800) << 10) + (low - 0xDC00);
  }
  append_utf8(scratch_, c);
}

std::uint32_t JsonCursor::hex4() {
  std::uint32_t value = 0;
  for (int i = 0; i < 4; ++i, ++at_) {
    const char c = at_ < text_.size() ? text_[at_] : '\0';
    value <<= 4;
    if (is_digit(c))
      value |= static_cast<std::uint32_t>(c - '0');
    else if (c >= 'a' && c <= 'f')
      value |= static_cast<std::uint32_t>(c - 'a' + 10);
    else if (c >= 'A' && c <= 'F')
      value |= static_cast<std::uint32_t>(c - 'A' + 10);
    else
      fail();
  }
  return value;
}

std::string_view JsonCursor::key() {
  const std::string_view name = string();
  if (!take(':')) fail();
  return name;
}

std::optional<std::int64_t> JsonCursor::whole_number() {
  if (!is_digit(peek())) return std::nullopt;
  std::size_t end = at_;
  std::int64_t value = 0;
  for (; end < text_.size() && is_digit(text_[end]); ++end) {
    value = value * 10 + (text_[end] - '0');
    if (value > kLargest) return std::nullopt;
  }
  const bool has_leading_zero = text_[at_] == '0' && end > at_ + 1;
  if (has_leading_zero || (end < text_.size() && !ends_scalar(text_[end]))) return std::nullopt;
  at_ = end;
  return value;
}

void JsonCursor::skip_string() {
  for (++at_; at_ < text_.size() && text_[at_] != '"'; ++at_)
    if (text_[at_] == '\\') ++at_;
  if (at_ >= text_.size()) fail();
  ++at_;
}

std::string_view JsonCursor::raw_value() {
  const char first = peek();
  const std::size_t begin = at_;
  if (first == '"') {
    skip_string();
  } else if (first == '{' || first == '[') {
    std::size_t depth = 0;
    do {
      if (at_ >= text_.size()) fail();
      const char c = text_[at_];
      if (c == '"') {
        skip_string();
        continue;
      }
      if (c == '{' || c == '[') ++depth;
      if (c == '}' || c == ']') --depth;
      ++at_;
    } while (depth > 0);
  } else {
    while (at_ < text_.size() && !ends_scalar(text_[at_])) ++at_;
  }
  if (at_ == begin) fail();
  return text_.substr(begin, at_ - begin);
}

void JsonCursor::expect_end() {
  peek();
  if (at_ != text_.size()) fail();
}

}  // namespace klein::tokenizer
