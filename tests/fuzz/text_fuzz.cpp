#include "fuzz/support.h"
#include "fuzz/targets.h"
#include "klein/tokenizer/tokenizer.h"
#include "klein/tokenizer/unicode.h"

void klein::fuzz::text(std::string_view input) {
  static const auto tokenizer =
      tokenizer::Tokenizer::load(KLEIN_TEST_FIXTURES "/tokenizer/small/tokenizer.json");
  static const tokenizer::Nfc nfc;
  const auto ids = tokenizer.encode(input);
  for (const int id : ids)
    expect(id >= 0 && id < tokenizer.vocabulary_size(), "ids are below the vocabulary's size");
  const auto composed = [](std::string_view text) {
    return tokenizer::to_utf8(nfc(tokenizer::to_utf16(text)));
  };
  expect(composed(tokenizer.decode(ids)) == composed(tokenizer::repair_utf8(input)),
         "ids decode to the text");
}
