#include "klein/io/config_fields.h"

#include <fmt/format.h>

#include "klein/core/error.h"

namespace klein::io {

void require_size(const JsonReader& json, std::string_view key, int& field) {
  constexpr int kLargest = 1 << 24;
  json.require(key, field);
  if (field < 1 || field > kLargest)
    json.fail(key, fmt::format("is out of range: expected 1 to {}, got {}", kLargest, field));
}

void refuse(const JsonReader& json, std::string_view key, std::string_view expected) {
  nlohmann::json value;
  json.maybe(key, value);
  throw Error(ErrorKind::unsupported,
              fmt::format("{}: expected `{}` to be {}, got {}", json.where(), key, expected,
                          json.has(key) ? describe(value) : "nothing"));
}

}  // namespace klein::io
