#include "klein/io/config_fields.h"

#include <cstdint>

#include <fmt/format.h>

#include "klein/core/error.h"

namespace klein::io {

void require_size(const JsonReader& json, std::string_view key, int& field) {
  json.require(key, field);
  if (field < 1 || field > kMaxSize)
    json.fail(key, fmt::format("is out of range: expected 1 to {}, got {}", kMaxSize, field));
}

void expect_heads(const JsonReader& json, int heads, int width) {
  if (std::int64_t{heads} * width > kMaxSize)
    throw Error(ErrorKind::shape,
                fmt::format("{}: expected attention of at most {} channels, got {} heads of {}",
                            json.where(), kMaxSize, heads, width));
}

void refuse(const JsonReader& json, std::string_view key, std::string_view expected) {
  nlohmann::json value;
  json.maybe(key, value);
  throw Error(ErrorKind::unsupported,
              fmt::format("{}: expected `{}` to be {}, got {}", json.where(), key, expected,
                          json.has(key) ? describe(value) : "nothing"));
}

}  // namespace klein::io
