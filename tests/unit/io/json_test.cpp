#include "klein/io/json.h"

#include <doctest/doctest.h>

#include "unit/io/support.h"

namespace klein::io {
namespace {

using test::error_of;
using test::TempDir;

/// The message about the field `key` of `text` when it is read into a T.
template <typename T>
std::string complaint(std::string_view text, std::string_view key = "k") {
  const auto json = parse_json(text, "text");
  T field{};
  const auto error = error_of([&] { JsonReader(json, "f.json").require(key, field); });
  CHECK(error.kind() == ErrorKind::format);
  return error.what();
}

template <typename T>
T value_of(std::string_view text) {
  const auto json = parse_json(text, "text");
  T field{};
  JsonReader(json, "f.json").require("k", field);
  return field;
}

std::string parse_message(std::string_view text) {
  const auto error = error_of([&] { parse_json(text, "f.json"); });
  CHECK(error.kind() == ErrorKind::format);
  return error.what();
}

std::string repeat(std::string_view part, int times) {
  std::string text;
  for (int i = 0; i < times; ++i) text += part;
  return text;
}

TEST_SUITE("io/json") {
  TEST_CASE("fields of every kind are read") {
    CHECK(value_of<bool>(R"({"k": true})"));
    CHECK(value_of<int>(R"({"k": -2147483648})") == -2147483647 - 1);
    CHECK(value_of<std::uint64_t>(R"({"k": 18446744073709551615})") == ~std::uint64_t{0});
    CHECK(value_of<std::int64_t>(R"({"k": -9223372036854775808})") ==
          std::numeric_limits<std::int64_t>::min());
    CHECK(value_of<float>(R"({"k": 1e-6})") == 1e-6f);
    CHECK(value_of<double>(R"({"k": 1000000})") == 1e6);
    CHECK(value_of<std::string>(R"({"k": "\u00e4"})") == "ä");
    CHECK(value_of<std::vector<int>>(R"({"k": [1, 2, 3]})") == std::vector{1, 2, 3});
    CHECK(value_of<std::vector<bool>>(R"({"k": [true, false]})") == std::vector{true, false});
    CHECK(value_of<std::array<int, 2>>(R"({"k": [2, 2]})") == std::array{2, 2});
    CHECK(value_of<std::map<std::string, int>>(R"({"k": {"a": 1}})") ==
          std::map<std::string, int>{{"a", 1}});
    CHECK(value_of<std::optional<int>>(R"({"k": 4})") == 4);
    CHECK(!value_of<std::optional<int>>(R"({"k": null})").has_value());
    CHECK(value_of<nlohmann::json>(R"({"k": [1, {}]})").size() == 2);
  }

  TEST_CASE("nothing is converted on the way") {
    const std::string wrong = "f.json: `k` has the wrong type: expected ";
    CHECK(complaint<int>(R"({"k": "five"})") == wrong + "a whole number, got \"five\"");
    CHECK(complaint<int>(R"({"k": 1e20})") == wrong + "a whole number, got 1e+20");
    CHECK(complaint<int>(R"({"k": 2.0})") == wrong + "a whole number, got 2.0");
    CHECK(complaint<int>(R"({"k": true})") == wrong + "a whole number, got true");
    CHECK(complaint<int>(R"({"k": null})") == wrong + "a whole number, got null");
    CHECK(complaint<float>(R"({"k": "1"})") == wrong + "a number, got \"1\"");
    CHECK(complaint<float>(R"({"k": false})") == wrong + "a number, got false");
    CHECK(complaint<bool>(R"({"k": 1})") == wrong + "true or false, got 1");
    CHECK(complaint<std::string>(R"({"k": 1})") == wrong + "a text, got 1");
    CHECK(complaint<std::string>(R"({"k": {"a": 1}})") == wrong + "a text, got an object");
    CHECK(complaint<std::vector<int>>(R"({"k": 1})") == wrong + "an array, got 1");
    CHECK(complaint<std::map<std::string, int>>(R"({"k": []})") ==
          wrong + "an object, got an array of 0");
  }

  TEST_CASE("numbers have to fit their field") {
    const std::string range = "f.json: `k` is out of range: expected a ";
    CHECK(complaint<int>(R"({"k": 2147483648})") ==
          range + "whole number from -2147483648 to 2147483647, got 2147483648");
    CHECK(complaint<int>(R"({"k": 18446744073709551615})") ==
          range + "whole number from -2147483648 to 2147483647, got 18446744073709551615");
    CHECK(complaint<std::uint32_t>(R"({"k": -1})") ==
          range + "whole number from 0 to 4294967295, got -1");
    CHECK(complaint<std::uint8_t>(R"({"k": 256})") ==
          range + "whole number from 0 to 255, got 256");
    CHECK(complaint<float>(R"({"k": -1e39})") ==
          range + "number up to 3.4028234663852886e+38, got -1e+39");
  }

  TEST_CASE("arrays of a fixed size have exactly that size, and elements are named") {
    CHECK(complaint<std::array<int, 2>>(R"({"k": [1]})") ==
          "f.json: `k` has the wrong type: expected an array of 2, got an array of 1");
    CHECK(complaint<std::array<int, 2>>(R"({"k": [1, 2, 3]})") ==
          "f.json: `k` has the wrong type: expected an array of 2, got an array of 3");
    CHECK(complaint<std::vector<std::vector<int>>>(R"({"k": [[1], [2, "x"]]})") ==
          "f.json: `k[1][1]` has the wrong type: expected a whole number, got \"x\"");
    CHECK(complaint<std::map<std::string, int>>(R"({"k": {"a": 1, "b": -0.5}})") ==
          "f.json: `k.b` has the wrong type: expected a whole number, got -0.5");
  }

  TEST_CASE("a failed read leaves the field alone") {
    const auto json = parse_json(R"({"k": [1, "x"]})", "text");
    std::vector<int> field{7};
    error_of([&] { JsonReader(json, "f.json").require("k", field); });
    CHECK(field == std::vector{7});
  }

  TEST_CASE("missing and null fields are told from wrong ones") {
    const auto json = parse_json(R"({"a": 1, "n": null})", "text");
    const JsonReader reader(json, "f.json");
    int field = 5;
    reader.maybe("b", field);
    reader.maybe("n", field);
    CHECK(field == 5);
    reader.maybe("a", field);
    CHECK(field == 1);
    CHECK(reader.has("a"));
    CHECK(!reader.has("n"));
    CHECK(!reader.has("b"));
    CHECK(complaint<int>("{}") == "f.json: `k` is missing");
  }

  TEST_CASE("a child names the way to its fields") {
    const auto json = parse_json(R"({"outer": {"inner": "x"}, "flat": 1})", "text");
    const JsonReader reader(json, "f.json");
    int field = 0;
    CHECK(std::string(error_of([&] { reader.child("outer").require("inner", field); }).what()) ==
          "f.json: `outer.inner` has the wrong type: expected a whole number, got \"x\"");
    CHECK(std::string(error_of([&] { reader.child("flat"); }).what()) ==
          "f.json: `flat` has the wrong type: expected an object, got 1");
    CHECK(std::string(error_of([&] { reader.child("none"); }).what()) ==
          "f.json: `none` is missing");
    CHECK(std::string(error_of([&] { JsonReader(json["flat"], "f.json"); }).what()) ==
          "f.json: expected an object, got 1");
  }

  TEST_CASE("long and hostile values are shortened and escaped in messages") {
    CHECK(complaint<int>(R"({"k": "\u001b[2J)" + std::string(100, 'x') + "\"}") ==
          "f.json: `k` has the wrong type: expected a whole number, got \"\\x1b[2J" +
              std::string(33, 'x') + "...\"");
    CHECK(complaint<std::map<std::string, int>>(R"({"k": {"a\nb": []}})") ==
          "f.json: `k.a\\nb` has the wrong type: expected a whole number, got an array of 0");
  }

  TEST_CASE("broken JSON is reported with line and column") {
    const std::string start = "expected JSON, got an error at line ";
    CHECK(parse_message("") ==
          start + "1, column 1 (unexpected end of input; expected '[', '{', or a literal): f.json");
    CHECK(parse_message("{\n  \"a\": 1,\n  \"b\" 2\n}") ==
          start + "3, column 7 (unexpected number literal; expected ':'): f.json");
    CHECK(parse_message("{\"a\": tru}") ==
          start + "1, column 10 (invalid literal; last read: '\"a\": tru}'): f.json");
    CHECK(parse_message("{} x") == start +
                                       "1, column 4 (invalid literal; last read: '{} x'; "
                                       "expected end of input): f.json");
    CHECK(parse_message("{\"a\": \"\xff\"}").find("ill-formed UTF-8") != std::string::npos);
    CHECK(parse_message("[1e999]") ==
          "expected JSON, got an error (number overflow parsing "
          "'1e999'): f.json");
    CHECK(parse_message(std::string("{\"a\":\n1}\0x", 10)) ==
          "expected JSON, got a zero byte at line 2, column 3: f.json");
    CHECK(parse_message("\xff\xfe{").starts_with(start + "1, column 1 "));
    CHECK(parse_message("NaN").starts_with(start + "1, column"));
  }

  TEST_CASE("nesting without end is refused before it is parsed") {
    CHECK(parse_message(repeat("[", 1000000)) ==
          "expected JSON nested at most 256 deep, got more at line 1, column 257: f.json");
    CHECK(parse_message(repeat("{\"a\":", 1000)) ==
          "expected JSON nested at most 256 deep, got more at line 1, column 1281: f.json");
    CHECK(parse_json(repeat("[", 256) + repeat("]", 256), "f.json").is_array());
    CHECK(parse_json('"' + repeat("[\\\"", 1000) + '"', "f.json").is_string());
  }

  TEST_CASE("a byte order mark is skipped and the last of two equal keys counts") {
    std::vector<std::string> repeated;
    const auto json =
        parse_json("\xef\xbb\xbf{\"a\": 1, \"b\": {\"a\": 2}, \"a\": 3}", "f.json", &repeated);
    CHECK(json["a"] == 3);
    CHECK(repeated == std::vector<std::string>{"a"});
    CHECK(parse_json("\xef\xbb\xbf{\"a\": 1}", "f.json")["a"] == 1);
  }

  TEST_CASE("a file has to hold one object and to be of a sane size") {
    const TempDir dir;
    const auto message = [&](std::string_view text) {
      const auto path = dir.file("f.json", text);
      return test::message_of(dir, [&] { parse_json_file(path, 20); });
    };
    CHECK(parse_json_file(dir.file("f.json", "{\"a\": [1]}"))["a"][0] == 1);
    CHECK(message("[1, 2]") == "expected a JSON object, got an array of 2: DIR/f.json");
    CHECK(message("\"text\"") == "expected a JSON object, got \"text\": DIR/f.json");
    CHECK(message("{\"a\": 1") ==
          "expected JSON, got an error at line 1, column 8 (unexpected end "
          "of input; expected '}'): DIR/f.json");
    CHECK(message("{                      }") ==
          "expected at most 20 bytes, got a larger file: DIR/f.json");
    CHECK(error_of([&] { parse_json_file(dir / "none"); }).kind() == ErrorKind::not_found);
  }
}

}  // namespace
}  // namespace klein::io
