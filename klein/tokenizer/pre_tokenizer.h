#pragma once

#include <string_view>
#include <vector>

#include "klein/tokenizer/tokenizer_file.h"
#include "klein/tokenizer/unicode.h"

namespace klein::tokenizer {

/// `pre_tokenizer` of the file: cuts normalised text into the words that merges never cross.
///
/// Thread   any, once made
class PreTokenizer {
 public:
  /// Understands Split with a Regex, isolated, and ByteLevel as the last stage, alone or in a
  /// Sequence.
  ///
  /// Errors   Error(format) for a wrong type or a broken expression; Error(unsupported), with its
  ///          name, for any other stage or setting
  explicit PreTokenizer(const TokenizerFile& file);

  std::vector<Span> split(std::u16string_view text, MatchBudget& budget) const;

 private:
  void add_stage(const TokenizerFile& file, const nlohmann::json& stage, bool is_last);
  void add_split(const TokenizerFile& file, const nlohmann::json& stage);
  void add_byte_level(const TokenizerFile& file, const nlohmann::json& stage);

  std::vector<Splitter> splitters_;
};

}  // namespace klein::tokenizer
