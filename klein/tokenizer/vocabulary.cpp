#include "klein/tokenizer/vocabulary.h"

#include <functional>

namespace klein::tokenizer {
namespace {

constexpr std::size_t kFirstSlotCount = 1024;

std::uint32_t hash_of(std::string_view text) {
  return static_cast<std::uint32_t>(std::hash<std::string_view>{}(text));
}

}  // namespace

std::size_t Vocabulary::slot_of(std::string_view text, std::uint32_t hash) const {
  const std::size_t mask = slots_.size() - 1;
  std::size_t at = hash & mask;
  for (; slots_[at].entry != 0; at = (at + 1) & mask)
    if (slots_[at].hash == hash && text_of(entries_[slots_[at].entry - 1]) == text) break;
  return at;
}

void Vocabulary::grow() {
  std::vector<Slot> old(slots_.empty() ? kFirstSlotCount : slots_.size() * 2);
  old.swap(slots_);
  const std::size_t mask = slots_.size() - 1;
  for (const Slot& slot : old) {
    if (slot.entry == 0) continue;
    std::size_t at = slot.hash & mask;
    while (slots_[at].entry != 0) at = (at + 1) & mask;
    slots_[at] = slot;
  }
}

Vocabulary::Outcome Vocabulary::add(std::string_view text, std::int64_t id) {
  if (id < 0 || id > kMaxId) return Outcome::id_out_of_range;
  if (slots_.size() < (entries_.size() + 1) * 2) grow();

  const std::uint32_t hash = hash_of(text);
  Slot& slot = slots_[slot_of(text, hash)];
  if (slot.entry != 0) return Outcome::same_text;

  const auto row = static_cast<std::size_t>(id);
  if (row < entry_of_id_.size() && entry_of_id_[row] != 0) return Outcome::same_id;
  if (row >= entry_of_id_.size()) entry_of_id_.resize(row + 1, 0);

  entries_.push_back(
      {texts_.size(), static_cast<std::uint32_t>(text.size()), static_cast<int>(id)});
  texts_ += text;
  entry_of_id_[row] = static_cast<std::uint32_t>(entries_.size());
  slot = {hash, entry_of_id_[row]};
  return Outcome::added;
}

std::optional<int> Vocabulary::find(std::string_view text) const {
  if (slots_.empty()) return std::nullopt;
  const std::uint32_t entry = slots_[slot_of(text, hash_of(text))].entry;
  if (entry == 0) return std::nullopt;
  return entries_[entry - 1].id;
}

std::optional<std::string_view> Vocabulary::text(int id) const {
  if (id < 0 || id >= size()) return std::nullopt;
  const std::uint32_t entry = entry_of_id_[static_cast<std::size_t>(id)];
  if (entry == 0) return std::nullopt;
  return text_of(entries_[entry - 1]);
}

}  // namespace klein::tokenizer
