#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace klein::tokenizer {

/// Tokens and their ids, both ways, in flat storage: a hundred thousand entries load in
/// milliseconds.
class Vocabulary {
 public:
  /// Ids are dense in every real file; a larger one would only make the tables here huge.
  static constexpr int kMaxId = (1 << 24) - 1;

  enum class Outcome { added, id_out_of_range, same_text, same_id };

  /// Adds one token. Anything but `added` leaves the vocabulary as it was.
  Outcome add(std::string_view text, std::int64_t id);

  std::optional<int> find(std::string_view text) const;

  /// The text of `id`; none for an id that no token has. Valid until the next add().
  std::optional<std::string_view> text(int id) const;

  /// One more than the largest id: the rows that an embedding table has to have.
  int size() const { return static_cast<int>(entry_of_id_.size()); }

  std::size_t count() const { return entries_.size(); }

 private:
  struct Entry {
    std::size_t offset;
    std::uint32_t length;
    int id;
  };

  std::string_view text_of(const Entry& entry) const {
    return std::string_view(texts_).substr(entry.offset, entry.length);
  }
  struct Slot {
    std::uint32_t hash = 0;   // Saves the look at most texts that are not it.
    std::uint32_t entry = 0;  // Entry index + 1, or 0.
  };
  std::size_t slot_of(std::string_view text, std::uint32_t hash) const;
  void grow();

  std::string texts_;
  std::vector<Entry> entries_;
  std::vector<Slot> slots_;                 // Open addressing, at most half full.
  std::vector<std::uint32_t> entry_of_id_;  // Entry index + 1, or 0.
};

}  // namespace klein::tokenizer
