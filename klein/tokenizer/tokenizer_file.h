#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "klein/core/error.h"
#include "klein/io/json.h"
#include "klein/tokenizer/vocabulary.h"

namespace klein::tokenizer {

/// The merge rules in the order of the file, which is their rank.
class MergeList {
 public:
  void add_part(std::string_view part) {
    texts_ += part;
    ends_.push_back(texts_.size());
  }

  std::size_t size() const { return ends_.size() / 2; }

  /// The left and the right half of the rule of this rank.
  std::pair<std::string_view, std::string_view> operator[](std::size_t rank) const {
    return {part(2 * rank), part(2 * rank + 1)};
  }

 private:
  std::string_view part(std::size_t index) const {
    const std::size_t begin = index == 0 ? 0 : ends_[index - 1];
    return std::string_view(texts_).substr(begin, ends_[index] - begin);
  }

  std::string texts_;
  std::vector<std::size_t> ends_;
};

/// What a Hugging Face tokenizer.json says, checked for its shape but not yet for its meaning.
struct TokenizerFile {
  std::filesystem::path path;
  Vocabulary vocabulary;    ///< `model.vocab`; the added tokens are not in it.
  MergeList merges;         ///< `model.merges`, both spellings: "a b" and ["a", "b"].
  nlohmann::json document;  ///< Everything else. `model` is an object in it.

  /// Throws Error(kind): "complaint: path".
  [[noreturn]] void fail(ErrorKind kind, const std::string& complaint) const;
};

/// Reads the file in one pass; the two big tables never become a tree of JSON values.
///
/// Errors   Error(not_found), Error(io) as io::read_text; Error(format) for broken JSON, a missing
///          `model`, `model.vocab` or `model.merges`, a wrong type in them, an id outside
///          [0, Vocabulary::kMaxId], and two tokens with one text or one id
TokenizerFile read_tokenizer_file(const std::filesystem::path& path);

/// The member `key` of `object`; null when there is none or `object` is no object.
const nlohmann::json& member(const nlohmann::json& object, const char* key);

}  // namespace klein::tokenizer
