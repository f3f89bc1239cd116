#include "klein/io/json.h"

#include <algorithm>
#include <cmath>
#include <set>

#include <fmt/format.h>

#include "klein/core/error.h"
#include "klein/io/text.h"

namespace klein::io {

namespace {

constexpr std::size_t kMaxDepth = 256;

std::string position(std::string_view text, std::size_t offset) {
  const auto before = text.substr(0, std::min(offset, text.size()));
  const auto line = 1 + std::count(before.begin(), before.end(), '\n');
  const auto start = before.rfind('\n') == std::string_view::npos ? 0 : before.rfind('\n') + 1;
  return fmt::format("line {}, column {}", line, before.size() - start + 1);
}

/// Depth is checked before parsing: what copies, prints or frees a value may recurse.
void check_depth(std::string_view text, const std::string& where) {
  std::size_t depth = 0;
  bool in_string = false;
  for (std::size_t i = 0; i < text.size(); ++i) {
    const char c = text[i];
    if (in_string) {
      if (c == '\\') ++i;
      if (c == '"') in_string = false;
    } else if (c == '"') {
      in_string = true;
    } else if (c == '[' || c == '{') {
      if (++depth > kMaxDepth)
        throw Error(ErrorKind::format, fmt::format("expected JSON nested at most {} deep, got more "
                                                   "at {}: {}",
                                                   kMaxDepth, position(text, i), where));
    } else if ((c == ']' || c == '}') && depth > 0) {
      --depth;
    }
  }
}

/// The parser takes a zero byte for the end of the text and would not look at what follows.
void check_zero_bytes(std::string_view text, const std::string& where) {
  const auto at = text.find('\0');
  if (at != text.npos)
    throw Error(ErrorKind::format,
                fmt::format("expected JSON, got a zero byte at {}: {}", position(text, at), where));
}

/// What the parser says without its own name, number and position.
std::string_view reason(const nlohmann::json::exception& error) {
  std::string_view text = error.what();
  if (const auto end = text.find("] "); end != text.npos) text.remove_prefix(end + 2);
  if (const auto end = text.find(": "); text.starts_with("parse error") && end != text.npos)
    text.remove_prefix(end + 2);
  if (const auto end = text.find(" - "); text.starts_with("syntax error") && end != text.npos)
    text.remove_prefix(end + 3);
  return text;
}

}  // namespace

nlohmann::json parse_json(std::string_view text, const std::string& where,
                          std::vector<std::string>* repeated) {
  check_zero_bytes(text, where);
  check_depth(text, where);
  std::set<std::string> seen;
  const auto watch_keys = [&](int depth, nlohmann::json::parse_event_t event,
                              nlohmann::json& value) {
    if (event == nlohmann::json::parse_event_t::key && depth == 1 &&
        !seen.insert(value.get_ref<const std::string&>()).second)
      repeated->push_back(value.get<std::string>());
    return true;
  };
  try {
    // The callback halves the parser's speed, so it is there only for those who ask.
    if (repeated == nullptr) return nlohmann::json::parse(text);
    return nlohmann::json::parse(text, watch_keys);
  } catch (const nlohmann::json::parse_error& error) {
    throw Error(ErrorKind::format, fmt::format("expected JSON, got an error at {} ({}): {}",
                                               position(text, error.byte == 0 ? 0 : error.byte - 1),
                                               printable(reason(error), 160), where));
  } catch (const nlohmann::json::exception& error) {
    throw Error(ErrorKind::format, fmt::format("expected JSON, got an error ({}): {}",
                                               printable(reason(error), 160), where));
  }
}

nlohmann::json parse_json_file(const std::filesystem::path& path, std::uint64_t max_bytes) {
  auto value = parse_json(read_text(path, max_bytes), path.string());
  if (!value.is_object())
    throw Error(ErrorKind::format,
                fmt::format("expected a JSON object, got {}: {}", describe(value), path.string()));
  return value;
}

std::string describe(const nlohmann::json& value) {
  if (value.is_object()) return "an object";
  if (value.is_array()) return fmt::format("an array of {}", value.size());
  if (value.is_string()) return in_quotes(value.get_ref<const std::string&>(), 40);
  return value.dump();
}

JsonReader::JsonReader(const nlohmann::json& object, std::string where)
    : object_(&object), where_(std::move(where)) {
  if (!object.is_object())
    throw Error(ErrorKind::format,
                fmt::format("{}: expected an object, got {}", where_, describe(object)));
}

const nlohmann::json* JsonReader::find(std::string_view key) const {
  const auto found = object_->find(key);
  return found == object_->end() ? nullptr : &*found;
}

JsonReader JsonReader::child(std::string_view key) const {
  const auto* value = find(key);
  if (value == nullptr) fail(key, "is missing");
  expect_object(std::string(key), *value);
  JsonReader reader(*value, where_);
  reader.prefix_ = prefix_ + std::string(key) + '.';
  return reader;
}

bool JsonReader::has(std::string_view key) const {
  const auto* value = find(key);
  return value != nullptr && !value->is_null();
}

void JsonReader::fail(std::string_view key, const std::string& complaint) const {
  throw Error(ErrorKind::format,
              fmt::format("{}: `{}{}` {}", where_, prefix_, printable(key), complaint));
}

void JsonReader::wrong_type(const std::string& key, std::string_view expected,
                            const Json& value) const {
  fail(key, fmt::format("has the wrong type: expected {}, got {}", expected, describe(value)));
}

void JsonReader::expect_object(const std::string& key, const Json& value) const {
  if (!value.is_object()) wrong_type(key, "an object", value);
}

void JsonReader::expect_array(const std::string& key, const Json& value,
                              std::optional<std::size_t> size) const {
  const std::string expected = size ? fmt::format("an array of {}", *size) : "an array";
  if (!value.is_array() || (size && value.size() != *size)) wrong_type(key, expected, value);
}

std::int64_t JsonReader::read_signed(const std::string& key, const Json& value, std::int64_t low,
                                     std::int64_t high) const {
  if (!value.is_number_integer()) wrong_type(key, "a whole number", value);
  const bool too_large =
      value.is_number_unsigned() && value.get<std::uint64_t>() > static_cast<std::uint64_t>(high);
  const bool fits =
      !too_large && value.get<std::int64_t>() >= low && value.get<std::int64_t>() <= high;
  if (!fits)
    fail(key, fmt::format("is out of range: expected a whole number from {} to {}, got {}", low,
                          high, describe(value)));
  return value.get<std::int64_t>();
}

std::uint64_t JsonReader::read_unsigned(const std::string& key, const Json& value,
                                        std::uint64_t high) const {
  if (!value.is_number_integer()) wrong_type(key, "a whole number", value);
  const bool negative = !value.is_number_unsigned() && value.get<std::int64_t>() < 0;
  if (negative || value.get<std::uint64_t>() > high)
    fail(key, fmt::format("is out of range: expected a whole number from 0 to {}, got {}", high,
                          describe(value)));
  return value.get<std::uint64_t>();
}

double JsonReader::read_number(const std::string& key, const Json& value, double limit) const {
  if (!value.is_number()) wrong_type(key, "a number", value);
  const double number = value.get<double>();
  if (std::abs(number) > limit)
    fail(key, fmt::format("is out of range: expected a number up to {}, got {}", limit,
                          describe(value)));
  return number;
}

void JsonReader::read(const std::string& key, const Json& value, bool& field) const {
  if (!value.is_boolean()) wrong_type(key, "true or false", value);
  field = value.get<bool>();
}

void JsonReader::read(const std::string& key, const Json& value, std::string& field) const {
  if (!value.is_string()) wrong_type(key, "a text", value);
  field = value.get<std::string>();
}

}  // namespace klein::io
