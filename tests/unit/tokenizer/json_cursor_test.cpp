#include "klein/tokenizer/json_cursor.h"

#include <doctest/doctest.h>

#include "klein/core/error.h"
#include "unit/io/support.h"

namespace klein::tokenizer {
namespace {

using io::test::error_of;

std::string decoded(std::string_view text) {
  return std::string(JsonCursor(text, "f.json").string());
}

}  // namespace

TEST_SUITE("tokenizer/json_cursor") {
  TEST_CASE("strings come out decoded") {
    CHECK(decoded(R"( "plain")") == "plain");
    CHECK(decoded(R"("")").empty());
    CHECK(decoded(R"("\"\\\/\b\f\n\r\t")") == "\"\\/\b\f\n\r\t");
    CHECK(decoded(R"("\u0041\u00e9\u20AC\ud83c\udf89")") == "A\u00e9\u20ac\U0001F389");
    CHECK(decoded("\"\u0120日本\\n\U0001F389 x\"") == "\u0120日本\n\U0001F389 x");
    CHECK(decoded(R"("a\u0000b")") == std::string("a\0b", 3));
  }

  TEST_CASE("a string that is not JSON is refused at its byte") {
    struct Case {
      std::string text;
      int byte;
    };
    const Case cases[] = {
        {"", 0},
        {"x", 0},
        {"\"open", 5},
        {"\"open\\", 6},
        {"\"a\nb\"", 2},
        {std::string("\"a\0b\"", 5), 2},
        {"\"\\x\"", 2},
        {"\"\\u12g4\"", 5},
        {"\"\\u12", 5},
        {"\"\\udc00\"", 7},
        {"\"\\ud800x\"", 7},
        {"\"\\ud800\\u0041\"", 13},
        {"\"\xff\"", 1},
        {"\"\xc3\"", 1},
        {"\"\xed\xa0\x80\"", 1},
        {"\"\\n\xc0\x80\"", 3},
        {"\"\\n\x01\"", 3},
    };
    for (const Case& c : cases) {
      const Error error = error_of([&] { decoded(c.text); });
      CHECK(error.kind() == ErrorKind::format);
      CHECK(error.what() ==
            "expected JSON, got an error at byte " + std::to_string(c.byte) + ": f.json");
    }
  }

  TEST_CASE("whole numbers are digits and nothing else") {
    const auto number = [](std::string_view text) {
      return JsonCursor(text, "f.json").whole_number();
    };
    CHECK(number(" 0,") == 0);
    CHECK(number("151643}") == 151643);
    CHECK(number("9007199254740992") == JsonCursor::kLargest);
    for (const char* text : {"", "-1", "1.0", "1e3", "01", "\"1\"", "null", "[1]", "1x",
                             "9007199254740993", "99999999999999999999999999"})
      CHECK_MESSAGE(!number(text), text);
  }

  TEST_CASE("a value is stepped over as a whole, whatever its strings contain") {
    const auto raw = [](std::string_view text) {
      return std::string(JsonCursor(text, "f.json").raw_value());
    };
    CHECK(raw(R"( {"a": ["}", "\"]"], "b": {}} , 1)") == R"({"a": ["}", "\"]"], "b": {}})");
    CHECK(raw("true, 1") == "true");
    CHECK(raw("\"a,b\" ") == "\"a,b\"");
    for (const char* text : {"", "  ", ",", "]", "[1, 2", "{\"a\": \"", "\"a\\\""})
      CHECK_THROWS_AS(raw(text), Error);
  }

  TEST_CASE("elements are parted by single commas") {
    const auto count = [](std::string_view text) {
      JsonCursor cursor(text, "f.json");
      REQUIRE(cursor.take('['));
      int elements = 0;
      for (; cursor.next_element(']', elements == 0); ++elements) cursor.raw_value();
      cursor.expect_end();
      return elements;
    };
    CHECK(count("[]") == 0);
    CHECK(count("[ 1 , [2, 3] ] ") == 2);
    for (const char* text : {"[", "[1", "[1,", "[1,]", "[,1]", "[1 2]", "[1,,2]", "[1]x", "[1}"})
      CHECK_THROWS_AS(count(text), Error);
  }
}

}  // namespace klein::tokenizer
