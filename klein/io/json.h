#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <limits>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <type_traits>
#include <utility>
#include <vector>

#include <nlohmann/json.hpp>

#include "klein/io/file.h"

namespace klein::io {

/// JSON from a text; `where` is how a person finds it.
///
/// A byte order mark is skipped and a key that occurs twice has its last value; `repeated`, if
/// given, collects such keys of the outermost object.
///
/// Errors   Error(format) with line and column when the text is not JSON, holds something after its
///          value, or nests deeper than 256
/// Thread   any
nlohmann::json parse_json(std::string_view text, const std::string& where,
                          std::vector<std::string>* repeated = nullptr);

/// The JSON object that a file holds. Errors as read_text() and parse_json(), and Error(format)
/// when the value is not an object.
nlohmann::json parse_json_file(const std::filesystem::path& path,
                               std::uint64_t max_bytes = kMaxTextBytes);

/// A value as a message shows it: `"text"`, `12`, `an array of 3`, `an object`; never long.
std::string describe(const nlohmann::json& value);

/// Reads the fields of one JSON object into a struct; every message names the file and the key.
///
/// Fields: bool, whole numbers and floats of any width, string, vector, array (of exactly that
/// many), optional (null is empty), map from string, and json itself. Nothing is converted on the
/// way: 1e20, -1 or 2.5 do not fit an unsigned field, and true is not a number.
class JsonReader {
 public:
  /// `where` is how a person finds the object: "transformer/config.json". Both the reader and its
  /// children refer to `object`, which has to outlive them. Error(format) if it is not an object.
  JsonReader(const nlohmann::json& object, std::string where);
  JsonReader(nlohmann::json&& object, std::string where) = delete;

  /// Throws Error(format) when `key` is missing or has the wrong type.
  template <typename T>
  void require(std::string_view key, T& field) const {
    const auto* value = find(key);
    if (value == nullptr) fail(key, "is missing");
    read(std::string(key), *value, field);
  }

  /// Leaves `field` at its default when `key` is missing or null.
  template <typename T>
  void maybe(std::string_view key, T& field) const {
    const auto* value = find(key);
    if (value != nullptr && !value->is_null()) read(std::string(key), *value, field);
  }

  /// Whether `key` is there and not null.
  bool has(std::string_view key) const;

  /// The object under `key`; its messages say `key.inner`.
  JsonReader child(std::string_view key) const;

  const std::string& where() const noexcept { return where_; }

  /// Throws Error(format): "transformer/config.json: `num_layers` is missing".
  [[noreturn]] void fail(std::string_view key, const std::string& complaint) const;

 private:
  using Json = nlohmann::json;

  const Json* find(std::string_view key) const;
  [[noreturn]] void wrong_type(const std::string& key, std::string_view expected,
                               const Json& value) const;
  void expect_object(const std::string& key, const Json& value) const;
  void expect_array(const std::string& key, const Json& value,
                    std::optional<std::size_t> size) const;
  std::int64_t read_signed(const std::string& key, const Json& value, std::int64_t low,
                           std::int64_t high) const;
  std::uint64_t read_unsigned(const std::string& key, const Json& value, std::uint64_t high) const;
  double read_number(const std::string& key, const Json& value, double limit) const;
  void read(const std::string& key, const Json& value, bool& field) const;
  void read(const std::string& key, const Json& value, std::string& field) const;
  void read(const std::string&, const Json& value, Json& field) const { field = value; }

  template <typename T>
  requires std::is_arithmetic_v<T>
  void read(const std::string& key, const Json& value, T& field) const {
    using Limits = std::numeric_limits<T>;
    if constexpr (std::is_floating_point_v<T>)
      field = static_cast<T>(read_number(key, value, static_cast<double>(Limits::max())));
    else if constexpr (std::is_signed_v<T>)
      field = static_cast<T>(read_signed(key, value, Limits::min(), Limits::max()));
    else
      field = static_cast<T>(read_unsigned(key, value, Limits::max()));
  }

  template <typename T>
  void read(const std::string& key, const Json& value, std::optional<T>& field) const {
    if (value.is_null()) return field.reset();
    read(key, value, field.emplace());
  }

  template <typename T>
  void read(const std::string& key, const Json& value, std::vector<T>& field) const {
    expect_array(key, value, std::nullopt);
    std::vector<T> items(value.size());
    for (std::size_t i = 0; i < items.size(); ++i) {
      T item{};
      read(key + '[' + std::to_string(i) + ']', value[i], item);
      items[i] = std::move(item);
    }
    field = std::move(items);
  }

  template <typename T, std::size_t N>
  void read(const std::string& key, const Json& value, std::array<T, N>& field) const {
    expect_array(key, value, N);
    for (std::size_t i = 0; i < N; ++i)
      read(key + '[' + std::to_string(i) + ']', value[i], field[i]);
  }

  template <typename T>
  void read(const std::string& key, const Json& value, std::map<std::string, T>& field) const {
    expect_object(key, value);
    std::map<std::string, T> items;
    for (const auto& [name, item] : value.items()) read(key + '.' + name, item, items[name]);
    field = std::move(items);
  }

  const Json* object_;
  std::string where_;
  std::string prefix_;  // "outer." in the reader of a child
};

}  // namespace klein::io
