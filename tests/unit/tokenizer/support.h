#pragma once

#include <filesystem>
#include <string>
#include <string_view>

#include <doctest/doctest.h>

#include "klein/core/error.h"
#include "klein/io/json.h"
#include "klein/tokenizer/tokenizer.h"
#include "support/gzip.h"
#include "unit/io/support.h"

namespace klein::tokenizer::test {

using io::test::error_of;
using io::test::message_of;
using io::test::TempDir;
using klein::test::read_gzip;
using nlohmann::json;

inline std::filesystem::path fixtures() {
  return std::filesystem::path(KLEIN_TEST_FIXTURES) / "tokenizer";
}

/// The real tokenizer of Qwen3, unpacked once for all tests: tests/fixtures/tokenizer/qwen3.
inline const Tokenizer& qwen3() {
  static const Tokenizer tokenizer = [] {
    const TempDir folder;
    folder.file("tokenizer.json", read_gzip(fixtures() / "qwen3" / "tokenizer.json.gz"));
    std::filesystem::copy_file(fixtures() / "qwen3" / "tokenizer_config.json",
                               folder / "tokenizer_config.json");
    return Tokenizer::load(folder.path());
  }();
  return tokenizer;
}

/// A complete tokenizer.json of six tokens, to be changed by a test: h, e, l, o, "he", "el".
inline json tiny_document() {
  return json::parse(R"({
    "added_tokens": [{"id": 6, "content": "<end>", "single_word": false, "lstrip": false,
                      "rstrip": false, "normalized": false, "special": true}],
    "normalizer": {"type": "NFC"},
    "pre_tokenizer": {"type": "Sequence", "pretokenizers": [
      {"type": "Split", "pattern": {"Regex": "\\s+|\\p{L}+"}, "behavior": "Isolated",
       "invert": false},
      {"type": "ByteLevel", "add_prefix_space": false, "use_regex": false}]},
    "post_processor": {"type": "ByteLevel"},
    "model": {"type": "BPE", "ignore_merges": false,
              "vocab": {"h": 0, "e": 1, "l": 2, "o": 3, "he": 4, "el": 5},
              "merges": [["e", "l"], ["h", "e"]]}})");
}

/// Saves `document` as the tokenizer.json of `folder` and loads it.
inline Tokenizer load(const TempDir& folder, const json& document) {
  return Tokenizer::load(folder.file("tokenizer.json", document.dump()));
}

/// The message of the error with which `document` is refused, with the folder as DIR.
inline std::string refusal(const json& document, ErrorKind kind) {
  const TempDir folder;
  CHECK(error_of([&] { load(folder, document); }).kind() == kind);
  return message_of(folder, [&] { load(folder, document); });
}

}  // namespace klein::tokenizer::test
