#pragma once

#include <filesystem>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace klein::tokenizer {

/// Text to token ids and back, as Hugging Face's tokenizers does it for a byte-level BPE model.
///
/// Of tokenizer.json it obeys `added_tokens`, `normalizer` (NFC or none), `pre_tokenizer` and
/// `model`, and refuses what it does not know there. `truncation`, `padding` and `decoder` have no
/// say: length and padding are the caller's (see prompt_tokens.h).
///
/// Thread   any, once loaded
class Tokenizer {
 public:
  /// Loads from a tokenizer.json, the folder that holds it, or a model folder with tokenizer/ in
  /// it.
  ///
  /// Errors   Error(not_found) without a file; Error(format) for one that contradicts itself;
  ///          Error(unsupported), with the name, for a setting that this tokenizer does not have
  static Tokenizer load(const std::filesystem::path& path);

  Tokenizer(Tokenizer&&) noexcept;
  Tokenizer& operator=(Tokenizer&&) noexcept;
  ~Tokenizer();

  /// The ids of `text`, with nothing added. Added tokens in it are recognised, wherever they stand.
  ///
  /// A sequence of bytes that is not UTF-8 counts as U+FFFD: a prompt may come from any shell.
  ///
  /// Errors   Error(unsupported) for a byte that the vocabulary has no token for
  std::vector<int> encode(std::string_view text) const;

  /// The text that `ids` stand for, added tokens included; broken UTF-8 becomes U+FFFD.
  ///
  /// Errors   Error(usage) for an id that no token has
  std::string decode(std::span<const int> ids) const;

  /// One more than the largest id: the rows that an embedding table has to have.
  int vocabulary_size() const;

  /// The id of a token by its text in the file: "<|im_end|>", "Ġcat".
  std::optional<int> token_to_id(std::string_view token) const;

  /// The id of tokenizer_config.json's `pad_token`; none without that file or key.
  std::optional<int> padding_id() const;

  /// The tokenizer.json that was read.
  const std::filesystem::path& path() const;

 private:
  struct Impl;
  explicit Tokenizer(std::unique_ptr<const Impl> impl);

  std::unique_ptr<const Impl> impl_;
};

}  // namespace klein::tokenizer
