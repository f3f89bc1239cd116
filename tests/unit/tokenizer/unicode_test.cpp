#include "klein/tokenizer/unicode.h"

#include "unit/tokenizer/support.h"

namespace klein::tokenizer {
namespace {

using namespace test;

std::string nfc(std::string_view text) {
  return to_utf8(Nfc()(to_utf16(text)));
}

std::string repeated(std::string_view text, int times) {
  std::string result;
  for (int i = 0; i < times; ++i) result += text;
  return result;
}

/// The pieces of `text`, joined by bars.
std::string pieces(const Splitter& splitter, std::string_view text) {
  const std::u16string units = to_utf16(text);
  std::string result;
  MatchBudget budget(units.size());
  for (const Span& span : splitter.split(units, {{0, units.size()}}, budget))
    result +=
        (result.empty() ? "" : "|") + to_utf8(units.substr(span.begin, span.end - span.begin));
  return result;
}

}  // namespace

TEST_SUITE("tokenizer/unicode") {
  TEST_CASE("broken UTF-8 becomes U+FFFD, one for each part that could begin a character") {
    CHECK(repair_utf8("a\u00e9\u65e5\U0001F389") == "a\u00e9\u65e5\U0001F389");
    CHECK(repair_utf8("a\xff\xfe z") == "a\ufffd\ufffd z");
    CHECK(repair_utf8("\xe6\x97x") == "\ufffdx");
    CHECK(repair_utf8("\xf0\x9f\x8e") == "\ufffd");
    CHECK(repair_utf8("\xc0\x80") == "\ufffd\ufffd");
    CHECK(repair_utf8("\xed\xa0\x80") == "\ufffd\ufffd\ufffd");
    CHECK(repair_utf8("\xf4\x90\x80\x80") == "\ufffd\ufffd\ufffd\ufffd");
    CHECK(repair_utf8(std::string("a\0b", 3)) == std::string("a\0b", 3));
  }

  TEST_CASE("accents are composed, and marks put in order") {
    CHECK(nfc("e\u0301") == "\u00e9");
    CHECK(nfc("\u212b \ufb01") == "\u00c5 \ufb01");
    CHECK(nfc("a\u0301\u0316") == "\u00e1\u0316");
    CHECK(nfc("\u1112\u1161\u11ab") == "\ud55c");
    CHECK(nfc("\u0344") == "\u0308\u0301");
  }

  TEST_CASE("characters younger than Unicode 9 part the marks around them") {
    CHECK(nfc("a\u0323\u0307") == "\u1ea1\u0307");
    CHECK(nfc("x\u1df6\u0316") == "x\u1df6\u0316");  // U+1DF6 came with Unicode 10.
    CHECK(nfc("x\u1df5\u0316") == "x\u0316\u1df5");
  }

  TEST_CASE("long runs of marks come out as short ones do") {
    for (const int count : {5, 15, 16, 17, 100}) {
      // The first acute accent is not blocked by marks of another class.
      CHECK(nfc("e" + repeated("\u0301\u0316", count)) ==
            "\u00e9" + repeated("\u0316", count) + repeated("\u0301", count - 1));
      CHECK(nfc("q" + repeated("\u0344\u0323", count) + "\u0344e\u0301") ==
            "q" + repeated("\u0323", count) + repeated("\u0308\u0301", count + 1) + "\u00e9");
      CHECK(nfc(repeated("\u0f73", count)) ==
            repeated("\u0f71", count) + repeated("\u0f72", count));
    }
  }

  TEST_CASE("matches and the text between them are pieces") {
    CHECK(pieces(Splitter("b+"), "abbcb") == "a|bb|c|b");
    CHECK(pieces(Splitter("b+"), "").empty());
    CHECK(pieces(Splitter("x*"), "abxxc") == "a|b|xx|c");
    CHECK(pieces(Splitter("\\p{L}"), "\U0001F389日a") == "\U0001F389|日|a");
  }

  TEST_CASE("an expression sees nothing outside of the span it cuts") {
    const std::u16string text = u"a  b";
    MatchBudget budget(text.size());
    const auto spans = Splitter("\\s+(?!\\S)|\\s+|(?<=a)b").split(text, {{0, 2}, {2, 4}}, budget);
    std::vector<std::size_t> ends;
    for (const Span& span : spans) ends.push_back(span.end);
    CHECK(ends == std::vector<std::size_t>{1, 2, 3, 4});
  }

  TEST_CASE("white space is Unicode's, information separators are none") {
    const Splitter space("\\s");
    for (const char* text : {" ", "\t", "\n", "\x0b", "\x0c", "\r", "\u0085", "\u00a0", "\u1680",
                             "\u2003", "\u2028", "\u202f", "\u205f", "\u3000"})
      CHECK(pieces(space, "a" + std::string(text) + "b") == "a|" + std::string(text) + "|b");
    for (const char* text : {"\x1c", "\x1f", "\u180e", "\u200b", "\ufeff"})
      CHECK(pieces(space, "a" + std::string(text) + "b") == "a" + std::string(text) + "b");
  }

  TEST_CASE("letters of Unicode 16 are letters, those of 17 are not") {
    const Splitter letter("\\p{L}+");
    CHECK(pieces(letter, "!\U0002EBF0a\u1c89!") == "!|\U0002EBF0a\u1c89|!");
    CHECK(pieces(letter, "a\ua7ceb") == "a|\ua7ce|b");
    CHECK(pieces(Splitter("[^\\p{N}]+"), "a\U00010D40b") == "a|\U00010D40|b");
  }

  TEST_CASE("an expression that is none is refused") {
    const Error error = error_of([] { Splitter("(a"); });
    CHECK(error.kind() == ErrorKind::format);
    CHECK(
        error.what() ==
        std::string("expected a regular expression, ICU says U_REGEX_MISMATCHED_PAREN of \"(a\""));
  }

  TEST_CASE("an expression that backtracks without end is an error, not a hang") {
    const Splitter splitter("(a+)+c");
    const std::u16string text(60, u'a');
    MatchBudget budget(text.size());
    const Error error = error_of([&] { splitter.split(text, {{0, text.size()}}, budget); });
    CHECK(error.kind() == ErrorKind::unsupported);
    CHECK(error.what() == std::string("the regular expression of the tokenizer gives up on this "
                                      "text: U_REGEX_STOPPED_BY_CALLER"));
  }

  TEST_CASE("words that each cost a little less than too much do so together") {
    // 2^22 steps at the first letter of each word: a bound for each match would never be reached.
    const Splitter splitter("(?:[a-z]|[a-z])*1");
    std::u16string text;
    for (int i = 0; i < 100; ++i) text += std::u16string(22, u'a') + u' ';
    MatchBudget budget(text.size());
    const Error error = error_of([&] { splitter.split(text, {{0, text.size()}}, budget); });
    CHECK(error.kind() == ErrorKind::unsupported);
    CHECK(budget.left < 0);
  }

  TEST_CASE("ten million spaces do not exhaust the matcher") {
    const Splitter splitter("\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+");
    const std::u16string text = std::u16string(10'000'000, u' ') + u'x';
    MatchBudget budget(text.size());
    CHECK(splitter.split(text, {{0, text.size()}}, budget).size() == 3);
  }
}

}  // namespace klein::tokenizer
