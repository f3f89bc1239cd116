#include "klein/tokenizer/pre_tokenizer.h"

#include "unit/tokenizer/support.h"

namespace klein::tokenizer {
namespace {

using namespace test;

/// The words of `text`, joined by bars.
std::string words(const json& pre_tokenizer, std::string_view text) {
  TokenizerFile file;
  file.path = "DIR/tokenizer.json";
  file.document = {{"pre_tokenizer", pre_tokenizer}};
  const std::u16string units = to_utf16(text);
  std::string result;
  MatchBudget budget(units.size());
  for (const Span& span : PreTokenizer(file).split(units, budget))
    result +=
        (result.empty() ? "" : "|") + to_utf8(units.substr(span.begin, span.end - span.begin));
  return result;
}

json split(const char* regex) {
  return {{"type", "Split"}, {"pattern", {{"Regex", regex}}}, {"behavior", "Isolated"}};
}

json byte_level(bool use_regex) {
  return {{"type", "ByteLevel"}, {"add_prefix_space", false}, {"use_regex", use_regex}};
}

json sequence(const json& stages) {
  return {{"type", "Sequence"}, {"pretokenizers", stages}};
}

std::string refused(const json& pre_tokenizer, ErrorKind kind) {
  const Error error = error_of([&] { words(pre_tokenizer, "a"); });
  CHECK(error.kind() == kind);
  return error.what();
}

}  // namespace

TEST_SUITE("tokenizer/pre_tokenizer") {
  TEST_CASE("the stages of a sequence cut one after the other") {
    const auto stages = sequence({split("\\s+"), split("\\p{N}"), byte_level(false)});
    CHECK(words(stages, "ab 12c  d") == "ab| |1|2|c|  |d");
    CHECK(words(stages, "").empty());
  }

  TEST_CASE("ByteLevel alone cuts as GPT-2 does, or not at all") {
    CHECK(words(byte_level(true), "it's 123  big\n\ncats!? 'S") ==
          "it|'s| 123| | big|\n|\n|cats|!?| '|S");
    CHECK(words(byte_level(false), "it's 123") == "it's 123");
  }

  TEST_CASE("stages and settings that are not known are refused by name") {
    const auto unsupported = ErrorKind::unsupported;
    CHECK(refused(nullptr, unsupported) ==
          "expected `pre_tokenizer` to end with ByteLevel, got null: DIR/tokenizer.json");
    CHECK(refused({{"type", "Whitespace"}}, unsupported) ==
          "expected `pre_tokenizer` to end with ByteLevel, got \"Whitespace\": DIR/tokenizer.json");
    CHECK(refused(sequence(json::array({split("a")})), unsupported) ==
          "expected `pre_tokenizer` to end with ByteLevel, got \"Split\": DIR/tokenizer.json");
    CHECK(refused(sequence(json(17, split("a"))), unsupported) ==
          "expected `pre_tokenizer.pretokenizers` of at most 16 stages, got 17: "
          "DIR/tokenizer.json");
    CHECK(refused(sequence({{{"type", "Digits"}}, byte_level(false)}), unsupported) ==
          "expected `pre_tokenizer` to have Split before ByteLevel, got \"Digits\": "
          "DIR/tokenizer.json");
    CHECK(
        refused(sequence({sequence(json::array({split("a")})), byte_level(false)}), unsupported) ==
        "expected `pre_tokenizer` to have Split before ByteLevel, got \"Sequence\": "
        "DIR/tokenizer.json");

    const auto with = [](json stage, const char* key, const json& value) {
      stage[key] = value;
      return sequence({stage, byte_level(false)});
    };
    CHECK(refused(with(split("a"), "behavior", "Removed"), unsupported) ==
          "expected Split behavior \"Isolated\", got \"Removed\": DIR/tokenizer.json");
    CHECK(refused(with(split("a"), "invert", true), unsupported) ==
          "expected Split invert false, got true: DIR/tokenizer.json");
    CHECK(refused(with(split("a"), "pattern", {{"String", "a"}}), unsupported) ==
          "expected Split pattern.Regex to be a text, got null: DIR/tokenizer.json");
    CHECK(refused(sequence({split("\\w"), byte_level(false)}), unsupported) ==
          "\"\\w\" is not supported in the regular expression \"\\w\": DIR/tokenizer.json");
    CHECK(refused({{"type", "ByteLevel"}}, unsupported) ==
          "expected ByteLevel add_prefix_space false, got true: DIR/tokenizer.json");
  }

  TEST_CASE("values of the wrong type and broken expressions are refused") {
    const auto format = ErrorKind::format;
    CHECK(refused(sequence(json::array()), format) ==
          "expected `pre_tokenizer.pretokenizers` to be an array of stages, got an empty one: "
          "DIR/tokenizer.json");
    CHECK(refused(sequence(5), format) ==
          "expected `pre_tokenizer.pretokenizers` to be an array of stages, got 5: "
          "DIR/tokenizer.json");
    CHECK(refused(sequence({split("[a"), byte_level(false)}), format) ==
          "expected a regular expression, ICU says U_REGEX_MISSING_CLOSE_BRACKET of \"[a\": "
          "DIR/tokenizer.json");
    CHECK(refused({{"type", "ByteLevel"}, {"add_prefix_space", 0}}, format) ==
          "expected `pre_tokenizer` add_prefix_space true or false, got 0: DIR/tokenizer.json");
  }
}

}  // namespace klein::tokenizer
