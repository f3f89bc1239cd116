#include "klein/tokenizer/bpe.h"

#include <array>
#include <random>

#include "unit/tokenizer/support.h"

namespace klein::tokenizer {
namespace {

using namespace test;

std::vector<int> ids_of(const json& document, std::string_view text) {
  const TempDir folder;
  return load(folder, document).encode(text);
}

/// Merging as its definition says it: the best pair of the whole word, again and again.
std::vector<int> merged_naively(std::vector<std::string> parts,
                                const std::vector<std::pair<std::string, std::string>>& rules,
                                const json& vocabulary) {
  for (bool changed = true; changed;) {
    changed = false;
    for (const auto& [left, right] : rules) {
      for (std::size_t i = 0; i + 1 < parts.size() && !changed; ++i) {
        if (parts[i] != left || parts[i + 1] != right) continue;
        parts[i] += right;
        parts.erase(parts.begin() + static_cast<std::ptrdiff_t>(i) + 1);
        changed = true;
      }
      if (changed) break;
    }
  }
  std::vector<int> ids;
  for (const auto& part : parts) ids.push_back(vocabulary[part]);
  return ids;
}

}  // namespace

TEST_SUITE("tokenizer/bpe") {
  TEST_CASE("the rule of the lowest rank is applied first") {
    CHECK(ids_of(tiny_document(), "hello") == std::vector<int>{0, 5, 2, 3});
    auto swapped = tiny_document();
    swapped["model"]["merges"] = json::array({"h e", "e l"});
    CHECK(ids_of(swapped, "hello") == std::vector<int>{4, 2, 2, 3});
  }

  TEST_CASE("among equal pairs the leftmost is merged first") {
    auto document = tiny_document();
    document["model"]["vocab"]["ll"] = 6;
    document.erase("added_tokens");
    document["model"]["merges"] = json::array({"l l"});
    CHECK(ids_of(document, "lllll") == std::vector<int>{6, 6, 2});
  }

  TEST_CASE("of two rules for one pair the later one counts") {
    auto document = tiny_document();
    document["model"]["merges"] = json::array({"h e", "e l", "h e"});
    CHECK(ids_of(document, "hello") == std::vector<int>{0, 5, 2, 3});
  }

  TEST_CASE("a word that is a token is taken whole only with ignore_merges") {
    auto document = tiny_document();
    document["model"]["vocab"]["hello"] = 6;
    document.erase("added_tokens");
    CHECK(ids_of(document, "hello") == std::vector<int>{0, 5, 2, 3});
    document["model"]["ignore_merges"] = true;
    CHECK(ids_of(document, "hello") == std::vector<int>{6});
    CHECK(ids_of(document, "hell") == std::vector<int>{0, 5, 2});
  }

  TEST_CASE("words of every length are merged as the definition says") {
    auto document = tiny_document();
    std::vector<std::pair<std::string, std::string>> rules;
    document.erase("added_tokens");
    json& vocabulary = document["model"]["vocab"];
    vocabulary = {{"h", 0}, {"e", 1}, {"l", 2}, {"o", 3}};
    const std::vector<std::string> letters = {"h", "e", "l", "o"};
    std::vector<std::string> tokens = letters;
    std::mt19937 random(7);
    while (rules.size() < 60) {
      const auto left = tokens[random() % tokens.size()], right = tokens[random() % tokens.size()];
      if (vocabulary.contains(left + right)) continue;
      vocabulary[left + right] = tokens.size();
      tokens.push_back(left + right);
      rules.emplace_back(left, right);
    }
    document["model"]["merges"] = json::array();
    for (const auto& [left, right] : rules)
      document["model"]["merges"].push_back(json::array({left, right}));
    const TempDir folder;
    const Tokenizer tokenizer = load(folder, document);

    for (const std::size_t length : {1, 2, 3, 10, 47, 48, 49, 50, 300}) {
      std::vector<std::string> parts;
      std::string word;
      for (std::size_t i = 0; i < length; ++i) word += parts.emplace_back(letters[random() % 4]);
      CHECK(tokenizer.encode(word) == merged_naively(parts, rules, vocabulary));
    }
  }

  TEST_CASE("a byte without a token is refused when it occurs, not before") {
    const TempDir folder;
    const Tokenizer tokenizer = load(folder, tiny_document());
    CHECK(tokenizer.encode("hello").size() == 4);
    const Error error = error_of([&] { tokenizer.encode("help"); });
    CHECK(error.kind() == ErrorKind::unsupported);
    CHECK(error.what() == std::string("expected a token for every byte of the text, the vocabulary "
                                      "has none for byte 0x70"));
  }

  TEST_CASE("a rule about tokens that do not exist is refused") {
    for (const auto& [left, right, missing] :
         {std::array{"h", "x", "x"}, std::array{"x", "h", "x"}, std::array{"h", "o", "ho"}}) {
      auto document = tiny_document();
      document["model"]["merges"] = json::array({"e l", std::string(left) + " " + right});
      CHECK(refusal(document, ErrorKind::format) ==
            "expected the tokens of merge 1 in the vocabulary, \"" + std::string(missing) +
                "\" is missing: DIR/tokenizer.json");
    }
  }

  TEST_CASE("models other than plain byte-level BPE are refused by name") {
    const auto with = [](const char* key, const json& value) {
      auto document = tiny_document();
      document["model"][key] = value;
      return document;
    };
    CHECK(refusal(with("type", "Unigram"), ErrorKind::unsupported) ==
          "expected `model.type` \"BPE\", got \"Unigram\": DIR/tokenizer.json");
    CHECK(refusal(with("type", nullptr), ErrorKind::unsupported) ==
          "expected `model.type` \"BPE\", got null: DIR/tokenizer.json");
    CHECK(refusal(with("dropout", 0.1), ErrorKind::unsupported) ==
          "expected `model.dropout` to be off, got 0.1: DIR/tokenizer.json");
    CHECK(refusal(with("unk_token", "<unk>"), ErrorKind::unsupported) ==
          "expected `model.unk_token` to be off, got \"<unk>\": DIR/tokenizer.json");
    CHECK(refusal(with("continuing_subword_prefix", "##"), ErrorKind::unsupported) ==
          "expected `model.continuing_subword_prefix` to be off, got \"##\": DIR/tokenizer.json");
    CHECK(refusal(with("end_of_word_suffix", "</w>"), ErrorKind::unsupported) ==
          "expected `model.end_of_word_suffix` to be off, got \"</w>\": DIR/tokenizer.json");
    CHECK(refusal(with("fuse_unk", true), ErrorKind::unsupported) ==
          "expected `model.fuse_unk` to be off, got true: DIR/tokenizer.json");
    CHECK(refusal(with("byte_fallback", true), ErrorKind::unsupported) ==
          "expected `model.byte_fallback` to be off, got true: DIR/tokenizer.json");
    CHECK(refusal(with("ignore_merges", 1), ErrorKind::format) ==
          "expected `model.ignore_merges` true or false, got 1: DIR/tokenizer.json");
  }

  TEST_CASE("settings that are off in any of their spellings are accepted") {
    auto document = tiny_document();
    document["model"].update(json::parse(R"({"dropout": 0.0, "unk_token": null, "fuse_unk": false,
        "continuing_subword_prefix": "", "end_of_word_suffix": null, "byte_fallback": false})"));
    CHECK(ids_of(document, "hello") == std::vector<int>{0, 5, 2, 3});
  }
}

}  // namespace klein::tokenizer
