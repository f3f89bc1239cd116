#include "klein/tokenizer/added_tokens.h"

#include "unit/tokenizer/support.h"

namespace klein::tokenizer {
namespace {

using namespace test;

json document_with(const json& changes) {
  auto document = tiny_document();
  document["added_tokens"][0].update(changes);
  return document;
}

/// The pieces of `text`; those that are tokens with their id.
std::string cut(const LiteralFinder& finder, std::string_view text) {
  std::string result;
  for (const Piece& piece : finder.split(text)) {
    if (!result.empty()) result += '|';
    result += std::string(piece.text) + (piece.id ? "=" + std::to_string(*piece.id) : "");
  }
  return result;
}

}  // namespace

TEST_SUITE("tokenizer/added_tokens") {
  TEST_CASE("the leftmost literal is found, and of those that begin together the longest") {
    LiteralFinder finder;
    CHECK(cut(finder, "abc") == "abc");
    finder.add("ab", 1);
    finder.add("abcd", 2);
    finder.add("bc", 3);
    CHECK(cut(finder, "") == "");
    CHECK(cut(finder, "xyz") == "xyz");
    CHECK(cut(finder, "abcd") == "abcd=2");
    CHECK(cut(finder, "abce") == "ab=1|ce");
    CHECK(cut(finder, "aab bcabab") == "a|ab=1| |bc=3|ab=1|ab=1");
    CHECK(cut(finder, "a") == "a");
  }

  TEST_CASE("literals are bytes, whatever their script") {
    LiteralFinder finder;
    finder.add("\u65e5\u672c", 9);
    CHECK(cut(finder, "\u65e5\u65e5\u672c\u672c") == "\u65e5|\u65e5\u672c=9|\u672c");
  }

  TEST_CASE("added tokens are found before normalisation and before the words are cut") {
    const TempDir folder;
    const Tokenizer tokenizer = load(folder, tiny_document());
    CHECK(tokenizer.encode("he<end>el<end>") == std::vector<int>{4, 6, 5, 6});
    CHECK(tokenizer.decode(std::vector<int>{4, 6, 5}) == "he<end>el");
    CHECK(tokenizer.token_to_id("<end>") == 6);
    CHECK(tokenizer.vocabulary_size() == 7);
  }

  TEST_CASE("a normalized token is found in the normalised text") {
    const TempDir folder;
    const Tokenizer tokenizer =
        load(folder, document_with({{"content", "\u00e9"}, {"normalized", true}}));
    CHECK(tokenizer.encode("he\u0301l\u00e9") == std::vector<int>{0, 6, 2, 6});
    const TempDir other;
    const Tokenizer literal = load(other, document_with({{"content", "\u00e9"}}));
    CHECK(literal.encode("\u00e9l") == std::vector<int>{6, 2});
    CHECK_THROWS_AS(literal.encode("e\u0301l"), Error);
  }

  TEST_CASE("flags that move the edges of a token are refused by name") {
    for (const char* key : {"lstrip", "rstrip", "single_word"})
      CHECK(refusal(document_with({{key, true}}), ErrorKind::unsupported) ==
            "expected `" + std::string(key) +
                "` to be false for the added token \"<end>\", got true: DIR/tokenizer.json");
  }

  TEST_CASE("entries of the wrong form are refused") {
    const auto refused = [](const json& changes) {
      return refusal(document_with(changes), ErrorKind::format);
    };
    CHECK(refused({{"content", 5}}) ==
          "expected `added_tokens[0].content` to be a text, got 5: DIR/tokenizer.json");
    CHECK(refused({{"content", ""}}) ==
          "expected `added_tokens[0].content` to be a text, got \"\": DIR/tokenizer.json");
    CHECK(refused({{"id", "6"}}) ==
          "expected `added_tokens[0].id` to be a number of 0 to 16777215, got \"6\": "
          "DIR/tokenizer.json");
    CHECK(refused({{"id", -6}}) ==
          "expected `added_tokens[0].id` to be a number of 0 to 16777215, got -6: "
          "DIR/tokenizer.json");
    CHECK(refused({{"id", 16777216}}) ==
          "expected `added_tokens[0].id` to be a number of 0 to 16777215, got 16777216: "
          "DIR/tokenizer.json");
    CHECK(refused({{"lstrip", "no"}}) ==
          "expected `added_tokens[0].lstrip` to be true or false, got \"no\": DIR/tokenizer.json");
    auto document = tiny_document();
    document["added_tokens"] = {{"a", 1}};
    CHECK(refusal(document, ErrorKind::format) ==
          "expected `added_tokens` to be an array, got an object: DIR/tokenizer.json");
    document["added_tokens"] = json::array({"a"});
    CHECK(refusal(document, ErrorKind::format) ==
          "expected `added_tokens[0].content` to be a text, got null: DIR/tokenizer.json");
  }

  TEST_CASE("an added token must not contradict the vocabulary or another one") {
    CHECK(refusal(document_with({{"content", "he"}}), ErrorKind::format) ==
          "expected one id for the token \"he\", got 4 and 6: DIR/tokenizer.json");
    CHECK(refusal(document_with({{"id", 5}}), ErrorKind::format) ==
          "expected one token per id, got \"el\" and \"<end>\" for 5: DIR/tokenizer.json");
    auto document = tiny_document();
    document["added_tokens"].push_back(document["added_tokens"][0]);
    CHECK(refusal(document, ErrorKind::format) ==
          "expected each added token and its id once, got \"<end>\" with id 6 again: "
          "DIR/tokenizer.json");
    const TempDir folder;
    const Tokenizer same = load(folder, document_with({{"content", "he"}, {"id", 4}}));
    CHECK(same.encode("hel") == std::vector<int>{4, 2});
  }

  TEST_CASE("an id that tokenizers would not give is refused, since it reads the file otherwise") {
    CHECK(refusal(document_with({{"id", 7}}), ErrorKind::format) ==
          "expected id 6 for the added token \"<end>\", got 7: DIR/tokenizer.json");
  }

  TEST_CASE("a file without added tokens is a tokenizer too") {
    auto document = tiny_document();
    document.erase("added_tokens");
    const TempDir folder;
    CHECK(load(folder, document).encode("he") == std::vector<int>{4});
  }
}

}  // namespace klein::tokenizer
