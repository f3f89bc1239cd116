#include "klein/tokenizer/bpe.h"

#include <algorithm>
#include <functional>
#include <queue>
#include <string>
#include <utility>

#include <fmt/format.h>

#include "klein/io/text.h"
#include "klein/tokenizer/byte_alphabet.h"

namespace klein::tokenizer {
namespace {

using nlohmann::json;

constexpr std::uint64_t kEmpty = ~std::uint64_t{0};  // No pair: ids are below 2^24.

// Up to this length scanning all pairs again after every merge is faster than a heap.
constexpr std::size_t kLongestScannedWord = 48;

std::uint64_t pair_of(int left, int right) {
  return (static_cast<std::uint64_t>(left) << 32) | static_cast<std::uint64_t>(right);
}

void refuse_other_models(const TokenizerFile& file) {
  const json& model = file.document["model"];
  const json& type = member(model, "type");
  if (type != "BPE")
    file.fail(ErrorKind::unsupported,
              fmt::format("expected `model.type` \"BPE\", got {}", io::describe(type)));
  const auto refuse = [&](const char* key, auto is_off) {
    const json& value = member(model, key);
    if (!value.is_null() && !is_off(value))
      file.fail(ErrorKind::unsupported,
                fmt::format("expected `model.{}` to be off, got {}", key, io::describe(value)));
  };
  const auto is_zero = [](const json& value) { return value == 0.0; };
  const auto is_empty = [](const json& value) { return value == json(""); };
  const auto is_false = [](const json& value) { return value == false; };
  refuse("dropout", is_zero);
  refuse("unk_token", [](const json&) { return false; });
  refuse("continuing_subword_prefix", is_empty);
  refuse("end_of_word_suffix", is_empty);
  refuse("fuse_unk", is_false);
  refuse("byte_fallback", is_false);
}

int token_of_merge(const TokenizerFile& file, std::size_t rank, std::string_view text) {
  if (const auto id = file.vocabulary.find(text)) return *id;
  file.fail(ErrorKind::format, fmt::format("expected the tokens of merge {} in the vocabulary, {} "
                                           "is missing",
                                           rank, io::in_quotes(text)));
}

/// Merges in place while any rule applies; every round looks at every pair.
void merge_by_scanning(const MergeTable& merges, std::vector<int>& tokens) {
  std::vector<Merge> pairs(tokens.size());  // pairs[i] joins tokens[i] and tokens[i + 1].
  const auto update = [&](std::size_t i) {
    pairs[i] = i + 1 < tokens.size() ? merges.find(tokens[i], tokens[i + 1]) : Merge{};
  };
  for (std::size_t i = 0; i < tokens.size(); ++i) update(i);

  const auto ranks_lower = [](const Merge& a, const Merge& b) { return a.rank < b.rank; };
  while (tokens.size() > 1) {
    const auto best = std::min_element(pairs.begin(), pairs.end(), ranks_lower);
    if (best->rank == Merge::kNone) return;
    const auto at = best - pairs.begin();
    tokens[static_cast<std::size_t>(at)] = best->id;
    tokens.erase(tokens.begin() + at + 1);
    pairs.erase(pairs.begin() + at + 1);
    update(static_cast<std::size_t>(at));
    if (at > 0) update(static_cast<std::size_t>(at) - 1);
  }
}

/// The same result from a linked list of tokens and a heap of candidate pairs.
class HeapMerger {
 public:
  HeapMerger(const MergeTable& merges, const std::vector<int>& tokens) : merges_(merges) {
    const auto count = static_cast<std::uint32_t>(tokens.size());
    symbols_.reserve(count);
    for (std::uint32_t i = 0; i < count; ++i)
      symbols_.push_back({tokens[i], i == 0 ? kEnd : i - 1, i + 1 < count ? i + 1 : kEnd, {}});
    std::vector<std::uint64_t> candidates;
    candidates.reserve(count);
    for (std::uint32_t i = 0; i + 1 < count; ++i)
      if (update(i)) candidates.push_back(candidate(i));
    candidates_ = Heap(std::greater<std::uint64_t>(), std::move(candidates));
  }

  std::vector<int> run() {
    while (!candidates_.empty()) {
      const std::uint64_t best = candidates_.top();
      candidates_.pop();
      const auto position = static_cast<std::uint32_t>(best);
      // A candidate is stale when its pair has changed since.
      if (best == candidate(position)) merge(position);
    }
    std::vector<int> tokens;
    for (std::uint32_t i = 0; i != kEnd; i = symbols_[i].next) tokens.push_back(symbols_[i].id);
    return tokens;
  }

 private:
  static constexpr std::uint32_t kEnd = ~std::uint32_t{0};

  struct Symbol {
    int id;
    std::uint32_t previous, next;
    Merge pair;  // With the next symbol.
  };
  using Heap =
      std::priority_queue<std::uint64_t, std::vector<std::uint64_t>, std::greater<std::uint64_t>>;

  /// Orders by rank, then by position.
  std::uint64_t candidate(std::uint32_t position) const {
    return (static_cast<std::uint64_t>(symbols_[position].pair.rank) << 32) | position;
  }

  /// Whether the symbol now makes a pair with the next.
  bool update(std::uint32_t position) {
    Symbol& symbol = symbols_[position];
    symbol.pair = symbol.next == kEnd ? Merge{} : merges_.find(symbol.id, symbols_[symbol.next].id);
    return symbol.pair.rank != Merge::kNone;
  }

  void merge(std::uint32_t position) {
    Symbol& symbol = symbols_[position];
    Symbol& absorbed = symbols_[symbol.next];
    absorbed.pair = {};
    symbol.id = symbol.pair.id;
    symbol.next = absorbed.next;
    if (symbol.next != kEnd) symbols_[symbol.next].previous = position;
    if (update(position)) candidates_.push(candidate(position));
    if (symbol.previous != kEnd && update(symbol.previous))
      candidates_.push(candidate(symbol.previous));
  }

  const MergeTable& merges_;
  std::vector<Symbol> symbols_;
  Heap candidates_;
};

}  // namespace

MergeTable::MergeTable(std::size_t rule_count) {
  std::size_t slot_count = 16;
  while (slot_count < rule_count * 2) slot_count *= 2;
  slots_.assign(slot_count, {kEmpty, {}});
}

std::size_t MergeTable::slot_of(std::uint64_t pair) const {
  const std::size_t mask = slots_.size() - 1;
  std::uint64_t hash = pair * 0x9E3779B97F4A7C15u;
  hash ^= hash >> 32;
  std::size_t slot = hash & mask;
  while (slots_[slot].pair != kEmpty && slots_[slot].pair != pair) slot = (slot + 1) & mask;
  return slot;
}

void MergeTable::set(int left, int right, Merge merge) {
  const std::uint64_t pair = pair_of(left, right);
  slots_[slot_of(pair)] = {pair, merge};
}

Merge MergeTable::find(int left, int right) const {
  return slots_[slot_of(pair_of(left, right))].merge;
}

Bpe::Bpe(const TokenizerFile& file) : merges_(file.merges.size()) {
  refuse_other_models(file);
  const json& ignore_merges = member(file.document["model"], "ignore_merges");
  if (!ignore_merges.is_null() && !ignore_merges.is_boolean())
    file.fail(ErrorKind::format, fmt::format("expected `model.ignore_merges` true or false, got {}",
                                             io::describe(ignore_merges)));
  ignore_merges_ = ignore_merges == true;

  for (std::size_t byte = 0; byte < byte_ids_.size(); ++byte)
    byte_ids_[byte] = file.vocabulary.find(byte_spellings()[byte]);

  // Trainers number the tokens in the order of the rules that make them: most look-ups are saved.
  std::string joined;
  int expected_id = static_cast<int>(byte_ids_.size());
  for (std::size_t rank = 0; rank < file.merges.size(); ++rank, ++expected_id) {
    const auto [left, right] = file.merges[rank];
    const int left_id = token_of_merge(file, rank, left);
    const int right_id = token_of_merge(file, rank, right);
    joined.assign(left).append(right);
    if (file.vocabulary.text(expected_id) != joined)
      expected_id = token_of_merge(file, rank, joined);
    merges_.set(left_id, right_id, {static_cast<int>(rank), expected_id});
  }
}

std::vector<int> Bpe::byte_tokens(std::string_view word) const {
  std::vector<int> tokens;
  tokens.reserve(word.size());
  for (const char c : word) {
    const auto byte = static_cast<unsigned char>(c);
    if (!byte_ids_[byte])
      throw Error(
          ErrorKind::unsupported,
          fmt::format("expected a token for every byte of the text, the vocabulary has none "
                      "for byte {:#04x}",
                      byte));
    tokens.push_back(*byte_ids_[byte]);
  }
  return tokens;
}

void Bpe::encode(const Vocabulary& vocabulary, std::string_view word, std::vector<int>& ids) const {
  if (ignore_merges_) {
    if (const auto id = vocabulary.find(spell_bytes(word))) {
      ids.push_back(*id);
      return;
    }
  }
  std::vector<int> tokens = byte_tokens(word);
  if (tokens.size() <= kLongestScannedWord)
    merge_by_scanning(merges_, tokens);
  else
    tokens = HeapMerger(merges_, tokens).run();
  ids.insert(ids.end(), tokens.begin(), tokens.end());
}

}  // namespace klein::tokenizer
