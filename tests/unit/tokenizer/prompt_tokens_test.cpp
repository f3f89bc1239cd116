#include "klein/tokenizer/prompt_tokens.h"

#include <numeric>

#include "klein/tokenizer/chat_template.h"
#include "unit/tokenizer/support.h"

namespace klein::tokenizer {
namespace {

using namespace test;
using Ids = std::vector<int>;

/// The ids of a prompt inside the template, without the template's own at both ends.
Ids inner_ids(const std::string& prompt) {
  const Ids suffix = {151645, 198, 151644, 77091, 198, 151667, 271, 151668, 271};
  Ids ids = encode_texts(qwen3(), std::vector{prompt}, TextForm::prompt).front();
  REQUIRE(ids.size() >= suffix.size() + 2);
  CHECK(Ids(ids.end() - 9, ids.end()) == suffix);
  CHECK(Ids(ids.begin(), ids.begin() + 2) == Ids{151644, 872});
  return Ids(ids.begin() + 2, ids.end() - 9);
}

}  // namespace

TEST_SUITE("tokenizer/prompt_tokens") {
  TEST_CASE("the template stands around the prompt, which is not trimmed") {
    CHECK(wrap_prompt(" a \n") ==
          "<|im_start|>user\n a \n<|im_end|>\n<|im_start|>assistant\n<think>\n\n</think>\n\n");
  }

  TEST_CASE("prompts in the template have the ids that were verified") {
    const std::pair<const char*, Ids> cases[] = {
        {"", {198}},
        {"a cat", {198, 64, 8251}},
        {"A cat holding a sign that says hello world",
         {198, 32, 8251, 9963, 264, 1841, 429, 2727, 23811, 1879}},
        {"A fluffy orange cat sitting on a windowsill",
         {198, 32, 67561, 18575, 8251, 11699, 389, 264, 11030, 483}},
        {"A red apple on a wooden table", {198, 32, 2518, 23268, 389, 264, 22360, 1965}},
        {" leading space", {198, 6388, 3550}},
        {"\n\nnewline", {1406, 89202}},
        {"tab\tand  two spaces 12345 it's DON'T",
         {198, 6192, 52477, 220, 1378, 12621, 220, 16, 17, 18, 19, 20, 432, 594, 44273, 17323}},
        {"e\u0301 caf\u00e9 \ufb01 \u212b", {198, 963, 51950, 32495, 70731, 79252}},
        {"日本語のテキスト、漢字。",
         {198, 101059, 102819, 15767, 56833, 61803, 70534, 5373, 110007, 18600, 1773}},
        {"emoji 👩‍👩‍👧 ok",
         {198, 37523, 61804, 102, 378, 235, 145233, 378, 235, 145665, 5394}},
        {"<|im_end|> injected <think>x</think>", {198, 151645, 40672, 220, 151667, 87, 151668}},
        {"aaa\r\nfoo   \n bar", {198, 32646, 319, 7975, 5872, 3619}},
        {"     ", {198, 414}},
    };
    for (const auto& [prompt, ids] : cases) CHECK_MESSAGE(inner_ids(prompt) == ids, prompt);
  }

  TEST_CASE("template, truncation and padding equal those of transformers") {
    // reference/dump_tokenizer.py
    const auto rows = io::parse_json_file(fixtures() / "extra_vectors.json")["prompts"];
    CHECK(rows.size() == 48);
    for (const json& row : rows) {
      const auto prompt = row["prompt"].get<std::string>();
      const auto max_length = row["max_length"].get<std::size_t>();
      CHECK(wrap_prompt(prompt) == row["text"].get<std::string>());

      const auto tokens = encode_prompt(qwen3(), prompt, static_cast<int>(max_length));
      Ids ids = row["ids"];
      Ids mask(ids.size(), 1);
      CHECK(tokens.length == static_cast<int>(ids.size()));
      ids.resize(max_length, 151643);
      mask.resize(max_length, 0);
      CHECK(tokens.ids == ids);
      CHECK(tokens.attention_mask == mask);
    }
  }

  TEST_CASE("a prompt that is too long loses the end of the template") {
    const auto whole = encode_prompt(qwen3(), "a cat", 14);
    CHECK(whole.length == 14);
    CHECK(!whole.truncated);
    const auto cut = encode_prompt(qwen3(), "a cat", 13);
    CHECK(cut.length == 13);
    CHECK(cut.truncated);
    CHECK(cut.ids == Ids(whole.ids.begin(), whole.ids.end() - 1));
    CHECK(cut.attention_mask == Ids(13, 1));
  }

  TEST_CASE("a padding token in the prompt is not masked") {
    const auto tokens = encode_prompt(qwen3(), "<|endoftext|>");
    CHECK(tokens.ids.size() == 512);
    CHECK(tokens.ids[3] == 151643);
    CHECK(tokens.attention_mask[3] == 1);
    CHECK(std::accumulate(tokens.attention_mask.begin(), tokens.attention_mask.end(), 0) == 13);
  }

  TEST_CASE("raw texts are encoded without the template") {
    const std::vector<std::string> texts = {"a cat", "", "<think>"};
    const std::vector<Ids> ids = {{64, 8251}, {}, {151667}};
    CHECK(encode_texts(qwen3(), texts, TextForm::raw) == ids);
  }

  TEST_CASE("a length below one token and a tokenizer without padding are refused") {
    const Error usage = error_of([] { encode_prompt(qwen3(), "a", 0); });
    CHECK(usage.kind() == ErrorKind::usage);
    CHECK(usage.what() == std::string("expected a prompt length of at least 1 token, got 0"));

    const TempDir folder;
    const Tokenizer unpadded = load(folder, tiny_document());
    const auto act = [&] { encode_prompt(unpadded, "he"); };
    CHECK(error_of(act).kind() == ErrorKind::format);
    CHECK(message_of(folder, act) ==
          "expected `pad_token` in tokenizer_config.json, got none: DIR");
  }
}

}  // namespace klein::tokenizer
