#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <optional>
#include <string_view>
#include <vector>

#include "klein/tokenizer/tokenizer_file.h"

namespace klein::tokenizer {

/// One merge rule: its place in the list, and the token that the pair becomes.
struct Merge {
  static constexpr int kNone = std::numeric_limits<int>::max();

  int rank = kNone;
  int id = -1;
};

/// Merge rules by the pair of ids they join; of two rules for one pair the later counts, as in HF.
class MergeTable {
 public:
  explicit MergeTable(std::size_t rule_count);

  void set(int left, int right, Merge merge);

  /// The rule for this pair; its rank is Merge::kNone when there is none.
  Merge find(int left, int right) const;

 private:
  struct Slot {
    std::uint64_t pair;
    Merge merge;
  };
  std::size_t slot_of(std::uint64_t pair) const;

  std::vector<Slot> slots_;  // Open addressing, at most half full.
};

/// Byte-pair encoding of one word at a time.
///
/// Thread   any, once made
/// Source   tokenizers, models/bpe: lowest rank first, leftmost among equals
class Bpe {
 public:
  /// Errors   Error(format) when a rule names a token that the vocabulary lacks, or makes one;
  ///          Error(unsupported) for a model other than plain byte-level BPE
  explicit Bpe(const TokenizerFile& file);

  /// Appends the ids of `word`, raw bytes. O(n log n), whatever the bytes are.
  ///
  /// Errors   Error(unsupported) for a byte that the vocabulary has no token for
  void encode(const Vocabulary& vocabulary, std::string_view word, std::vector<int>& ids) const;

 private:
  std::vector<int> byte_tokens(std::string_view word) const;

  std::array<std::optional<int>, 256> byte_ids_;
  MergeTable merges_;
  bool ignore_merges_ = false;
};

}  // namespace klein::tokenizer
