#include "klein/tokenizer/icu_pattern.h"

#include "unit/tokenizer/support.h"

namespace klein::tokenizer {

TEST_SUITE("tokenizer/icu_pattern") {
  TEST_CASE("what both dialects read alike is left as it is") {
    for (const char* regex : {"(?i:'s|'t)| ?[^\\s]+[\\r\\n]*|\\s+(?!\\S)", "a{1,3}b*?(?:c|d)++",
                              "[^\\]a-z&&[b]]\\.\\x{41}", "\\p{Lu}\\P{M}\\p{^Han}[[:alpha:]]",
                              "(?<=a)b(?<name>c)(?x-i:d)", "日本|\\u65E5", "."})
      CHECK(to_icu_pattern(regex) == regex);
  }

  TEST_CASE("letters and digits are spelled out, also inside a class and negated") {
    const std::string letters = to_icu_pattern("\\p{L}");
    CHECK(letters.starts_with("[[\\p{L}&&\\p{Age=16.0}]\\x{1C89}-\\x{1C8A}"));
    CHECK(to_icu_pattern("\\P{L}") == "[^" + letters.substr(1));
    CHECK(to_icu_pattern("[^a\\p{L}]+") == "[^a" + letters + "]+");
    CHECK(to_icu_pattern("\\p{N}").starts_with("[[\\p{N}&&\\p{Age=16.0}]\\x{10D40}"));
    CHECK(to_icu_pattern("\\d").starts_with("[[\\p{Nd}&&\\p{Age=16.0}]\\x{10D40}"));
    CHECK(to_icu_pattern("\\D") == "[^" + to_icu_pattern("\\p{Nd}").substr(1));
    CHECK(to_icu_pattern("\\\\p{L}") == "\\\\p{L}");
  }

  TEST_CASE("what the dialects read differently is refused by name") {
    for (const auto& [regex, element] : {
             std::pair{"^a", "^"},
             {"a$", "$"},
             {"\\w+", "\\w"},
             {"[\\h]", "\\h"},
             {"a\\b", "\\b"},
             {"(a)\\1", "\\1"},
             {"\\Z", "\\Z"},
             {"a{1,2}+", "}+"},
             {"(?m:a)", "(?m"},
             {"(?is)a", "(?is"},
         }) {
      const Error error = test::error_of([&] { to_icu_pattern(regex); });
      CHECK(error.kind() == ErrorKind::unsupported);
      CHECK(std::string(error.what())
                .starts_with("\"" + std::string(element) +
                             "\" is not supported in the regular expression"));
    }
    CHECK(to_icu_pattern("[$^]") == "[$^]");
  }

  TEST_CASE("a broken expression comes out without a crash, for ICU to refuse") {
    for (const char* regex : {"\\", "\\p", "\\p{", "\\p{L", "[", "[a", "(", "(?", "]", "", "}"})
      CHECK_NOTHROW(to_icu_pattern(regex));
  }
}

}  // namespace klein::tokenizer
