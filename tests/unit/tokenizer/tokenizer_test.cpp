#include "klein/tokenizer/tokenizer.h"

#include <ctime>

#include "unit/tokenizer/support.h"

namespace klein::tokenizer {
namespace {

using namespace test;

/// Checks the ids of every entry, and that decoding them gives the text that was composed.
void check_vectors(const Tokenizer& tokenizer, const json& vectors) {
  REQUIRE(!vectors.empty());
  for (const json& vector : vectors) {
    const auto text = vector["text"].get<std::string>();
    const auto ids = tokenizer.encode(text);
    CHECK_MESSAGE(ids == vector["ids"].get<std::vector<int>>(), vector.dump());
    CHECK(tokenizer.encode(tokenizer.decode(ids)) == ids);
  }
}

json extra_vectors(const char* part) {
  return io::parse_json_file(fixtures() / "extra_vectors.json")[part];  // dump_tokenizer.py
}

std::string repeated(std::string_view text, std::size_t bytes) {
  std::string result;
  while (result.size() < bytes) result += text;
  return result;
}

}  // namespace

TEST_SUITE("tokenizer/tokenizer") {
  TEST_CASE("Qwen3: all published vectors have exactly the reference's ids") {
    const auto path = fixtures() / "qwen3" / "vectors.json";
    const auto vectors = io::parse_json(io::read_text(path), path.string());
    CHECK(vectors.size() == 202);
    check_vectors(qwen3(), vectors);
  }

  TEST_CASE("Qwen3: hard strings of every script have exactly the reference's ids") {
    check_vectors(qwen3(), extra_vectors("qwen3"));
  }

  TEST_CASE("a tokenizer with other settings has exactly the reference's ids") {
    check_vectors(Tokenizer::load(fixtures() / "small"), extra_vectors("small"));
  }

  TEST_CASE("Qwen3: white space and digits are Unicode's") {
    const std::pair<const char*, std::vector<int>> cases[] = {
        {"it'S", {275, 13272}},
        {"x²½Ⅷ", {87, 29456, 26062, 70467, 100}},
        {"a\u3000\u3000b", {64, 22441, 22441, 65}},
        {"foo\x1c"
         "bar",
         {7975, 216, 2257}},
        {"\x0b\x0c"
         "foo",
         {199, 200, 7975}},
        {"a\u00a0b", {64, 4102, 65}},
        {"\u200bfoo", {15692, 7975}},
    };
    for (const auto& [text, ids] : cases) CHECK_MESSAGE(qwen3().encode(text) == ids, text);
  }

  TEST_CASE("Qwen3: sizes and ids of single tokens") {
    CHECK(qwen3().vocabulary_size() == 151669);
    CHECK(qwen3().token_to_id("<|im_start|>") == 151644);
    CHECK(qwen3().token_to_id("\u0120cat") == 8251);
    CHECK(!qwen3().token_to_id("no such token"));
    CHECK(qwen3().padding_id() == 151643);
  }

  TEST_CASE("text that is not UTF-8 is read with U+FFFD in place of what is broken") {
    CHECK(qwen3().encode("caf\xe9 \xff") == qwen3().encode("caf\ufffd \ufffd"));
    CHECK(qwen3().decode(std::vector<int>{37523, 61804, 102}) == "emoji \U0001F469");
    CHECK(qwen3().decode(std::vector<int>{61804}) == " \ufffd");
  }

  TEST_CASE("an id that no token has cannot be decoded") {
    for (const int id : {-1, 151669}) {
      const Error error = error_of([&] { qwen3().decode(std::vector<int>{64, id}); });
      CHECK(error.kind() == ErrorKind::usage);
      CHECK(error.what() ==
            "expected the id of a token, got " + std::to_string(id) + " in a vocabulary of 151669");
    }
  }

  TEST_CASE("no kind of text takes more than linear time") {
    // Anything quadratic takes minutes for one of these.
    for (const char* unit : {"a",
                             "xq",
                             " ",
                             "\n",
                             "\r\n",
                             " \n",
                             "!",
                             "<",
                             "<|im_",
                             "0",
                             "\u0301\u0316",
                             "\u0f73",
                             "\u00e9",
                             "e\u0316\u0301",
                             "日",
                             "👩‍",
                             "\u1112\u1161\u11ab",
                             "\xff",
                             "'s",
                             "\t "}) {
      CAPTURE(unit);
      const std::string text = repeated(unit, 400'000);
      const auto before = std::clock();
      CHECK(!qwen3().encode(text).empty());
      CHECK(static_cast<double>(std::clock() - before) / CLOCKS_PER_SEC < 10);
    }
  }

  TEST_CASE("a model folder, a tokenizer folder and the file itself can be loaded") {
    const TempDir folder;
    std::filesystem::create_directory(folder / "tokenizer");
    const auto file = folder.file("tokenizer/tokenizer.json", tiny_document().dump());
    for (const auto& path : {folder.path(), folder / "tokenizer", file}) {
      const Tokenizer tokenizer = Tokenizer::load(path);
      CHECK(tokenizer.path() == file);
      CHECK(!tokenizer.padding_id());
      CHECK(tokenizer.encode("hello") == std::vector<int>{0, 5, 2, 3});
    }
  }

  TEST_CASE("a folder without a tokenizer is not found") {
    const TempDir folder;
    const auto act = [&] { Tokenizer::load(folder.path()); };
    CHECK(error_of(act).kind() == ErrorKind::not_found);
    CHECK(message_of(folder, act) == "expected tokenizer.json or tokenizer/tokenizer.json: DIR");
    CHECK(error_of(act).hint() ==
          "Give a model folder in the diffusers layout, or the tokenizer.json itself");
    CHECK(error_of([&] { Tokenizer::load(folder / "none"); }).kind() == ErrorKind::not_found);
  }

  TEST_CASE("normalizers and post-processors that are not known are refused by name") {
    auto document = tiny_document();
    document["normalizer"] = {{"type", "Lowercase"}};
    CHECK(refusal(document, ErrorKind::unsupported) ==
          "expected `normalizer` NFC or none, got \"Lowercase\": DIR/tokenizer.json");
    document["normalizer"] = nullptr;
    document["post_processor"] = {{"type", "TemplateProcessing"}};
    CHECK(refusal(document, ErrorKind::unsupported) ==
          "expected `post_processor` ByteLevel or none, got \"TemplateProcessing\": "
          "DIR/tokenizer.json");
    document["post_processor"] = nullptr;
    const TempDir folder;
    CHECK(load(folder, document).encode("he") == std::vector<int>{4});
  }

  TEST_CASE("settings of tokenizer_config.json that would change ids are refused by name") {
    const TempDir folder;
    const auto refused = [&](const json& config, ErrorKind kind) {
      folder.file("tokenizer_config.json", config.dump());
      const auto act = [&] { load(folder, tiny_document()); };
      CHECK(error_of(act).kind() == kind);
      return message_of(folder, act);
    };
    for (const char* key :
         {"add_bos_token", "add_eos_token", "add_prefix_space", "split_special_tokens"})
      CHECK(refused({{key, true}}, ErrorKind::unsupported) ==
            "expected `" + std::string(key) + "` to be false, got true: DIR/tokenizer_config.json");
    CHECK(refused({{"padding_side", "left"}}, ErrorKind::unsupported) ==
          "expected `padding_side` \"right\", got \"left\": DIR/tokenizer_config.json");
    CHECK(refused({{"pad_token", 0}}, ErrorKind::format) ==
          "expected `pad_token` to be a text, got 0: DIR/tokenizer_config.json");
    CHECK(refused({{"pad_token", "<pad>"}}, ErrorKind::format) ==
          "expected `pad_token` to be a token of the vocabulary, got \"<pad>\": "
          "DIR/tokenizer_config.json");
  }

  TEST_CASE("the padding token may be a text or an object, added or of the vocabulary") {
    const TempDir folder;
    const auto padding = [&](const json& pad_token) {
      folder.file("tokenizer_config.json", json{{"pad_token", pad_token}}.dump());
      return load(folder, tiny_document()).padding_id();
    };
    CHECK(padding("<end>") == 6);
    CHECK(padding({{"content", "<end>"}}) == 6);
    CHECK(padding("o") == 3);
    CHECK(!padding(nullptr));
  }
}

}  // namespace klein::tokenizer
