#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "klein/tokenizer/tokenizer_file.h"

namespace klein::tokenizer {

/// One entry of `added_tokens`: a literal that is found in the text before anything else is done.
struct AddedToken {
  std::string content;
  int id = 0;
  bool normalized = false;  ///< Looked for after normalisation instead of before.
};

/// The entries of `added_tokens`, in the order of the file.
///
/// Errors   Error(format) for a wrong type, an empty or repeated content, a repeated id, and an id
///          that contradicts `model.vocab` or leaves a gap; Error(unsupported) for lstrip, rstrip
///          and single_word
std::vector<AddedToken> read_added_tokens(const TokenizerFile& file);

/// A piece of text: one added token, or the text between two.
struct Piece {
  std::string_view text;
  std::optional<int> id;  ///< None: ordinary text.
};

/// Finds literals in text: the leftmost first, of those that begin together the longest.
///
/// Thread   any, once made
class LiteralFinder {
 public:
  void add(std::string_view literal, int id);

  bool empty() const { return next_node_.empty(); }

  /// Cuts `text`, of which the pieces are views. No piece is empty.
  std::vector<Piece> split(std::string_view text) const;

 private:
  struct Node {
    std::optional<int> id;
  };
  std::optional<std::uint32_t> next(std::uint32_t node, char byte) const;
  Piece longest_at(std::string_view text) const;

  // A trie; an edge's key is its node and byte.
  std::vector<Node> nodes_ = {Node{}};
  std::unordered_map<std::uint64_t, std::uint32_t> next_node_;
};

}  // namespace klein::tokenizer
