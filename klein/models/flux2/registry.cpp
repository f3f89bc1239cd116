#include "klein/models/flux2/registry.h"

#include <algorithm>
#include <array>
#include <cctype>
#include <numeric>
#include <set>
#include <utility>

namespace klein::flux2 {
namespace {

constexpr std::uint64_t kBytes4b = 15'980'000'000;
constexpr std::uint64_t kBytes9b = 34'723'000'000;
constexpr std::size_t kMaxMistakes = 3;
constexpr std::size_t kMinPiece = 2;        // letters of a name that is only a piece of one
constexpr std::size_t kMaxNameBytes = 256;  // longer ones are not compared letter by letter

constexpr std::array<std::string_view, 2> kAliases4b = {"flux2-klein", "klein-4b"};
constexpr std::array<std::string_view, 1> kAliases9b = {"klein-9b"};
constexpr std::array<std::string_view, 1> kAliases9bKv = {"klein-9b-kv"};
constexpr std::array<std::string_view, 2> kAliasesBase4b = {"flux2-base-4b", "klein-base-4b"};
constexpr std::array<std::string_view, 2> kAliasesBase9b = {"flux2-base-9b", "klein-base-9b"};

constexpr std::array kRegistry = {
    RegistryEntry{"flux2-klein-4b", "black-forest-labs/FLUX.2-klein-4B", Variant::distilled,
                  "klein-4b", kAliases4b, "4b", kBytes4b},
    RegistryEntry{"flux2-klein-9b", "black-forest-labs/FLUX.2-klein-9B", Variant::distilled,
                  "klein-9b", kAliases9b, "9b", kBytes9b},
    RegistryEntry{"flux2-klein-9b-kv", "black-forest-labs/FLUX.2-klein-9b-kv", Variant::kv,
                  "klein-9b-kv", kAliases9bKv, "9b", kBytes9b},
    RegistryEntry{"flux2-klein-base-4b", "black-forest-labs/FLUX.2-klein-base-4B", Variant::base,
                  "klein-base-4b", kAliasesBase4b, "4b", kBytes4b},
    RegistryEntry{"flux2-klein-base-9b", "black-forest-labs/FLUX.2-klein-base-9B", Variant::base,
                  "klein-base-9b", kAliasesBase9b, "9b", kBytes9b},
};

constexpr std::array<std::string_view, 3> kDemoNames = {"demo", "demo-kv", "demo-base"};

std::string lower(std::string_view text) {
  std::string result(text);
  std::ranges::transform(result, result.begin(), [](unsigned char c) { return std::tolower(c); });
  return result;
}

/// "FLUX.2-klein-4B" -> flux, 2, klein, 4b.
std::set<std::string> words_of(std::string_view name) {
  std::set<std::string> words;
  std::string word;
  for (const char c : lower(name) + '.') {
    if (std::isalnum(static_cast<unsigned char>(c)) != 0) {
      word += c;
    } else if (!word.empty()) {
      words.insert(word);
      word.clear();
    }
  }
  return words;
}

/// Letters to add, drop or exchange to get from one name to the other.
std::size_t mistakes_between(std::string_view a, std::string_view b) {
  std::vector<std::size_t> row(b.size() + 1);
  std::iota(row.begin(), row.end(), std::size_t{0});
  for (std::size_t i = 0; i < a.size(); ++i) {
    std::size_t diagonal = std::exchange(row[0], i + 1);
    for (std::size_t j = 0; j < b.size(); ++j) {
      const std::size_t exchanged = diagonal + (a[i] == b[j] ? 0 : 1);
      diagonal = row[j + 1];
      row[j + 1] = std::min({exchanged, row[j] + 1, diagonal + 1});
    }
  }
  return row.back();
}

}  // namespace

std::string_view name_of(Variant variant) {
  switch (variant) {
    case Variant::distilled:
      return "distilled";
    case Variant::base:
      return "base";
    case Variant::kv:
      return "kv";
  }
  return "";
}

VariantDefaults defaults_of(Variant variant) {
  if (variant == Variant::base) return {.steps = 50, .guidance = 4.0};
  return {.steps = 4, .guidance = 1.0};
}

std::span<const std::string_view> demo_names() {
  return kDemoNames;
}

std::span<const RegistryEntry> registry() {
  return kRegistry;
}

const RegistryEntry* find_entry(std::string_view name) {
  const auto wanted = lower(name);
  for (const auto& entry : kRegistry)
    if (wanted == entry.key || wanted == lower(entry.repo) ||
        std::ranges::find(entry.aliases, wanted) != entry.aliases.end())
      return &entry;
  return nullptr;
}

std::optional<Variant> variant_of_file_name(std::string_view name) {
  const auto words = words_of(name);
  if (!words.contains("klein")) return std::nullopt;
  if (words.contains("kv")) return Variant::kv;
  return words.contains("base") ? Variant::base : Variant::distilled;
}

const RegistryEntry* entry_of_file_name(std::string_view name) {
  const auto variant = variant_of_file_name(name);
  const auto words = words_of(name);
  for (const auto& entry : kRegistry)
    if (variant == entry.variant && words.contains(std::string(entry.size))) return &entry;
  return nullptr;
}

std::vector<std::string> near_names(std::string_view name) {
  if (name.size() > kMaxNameBytes) return {};
  const auto wanted = lower(name);
  std::vector<std::pair<std::size_t, std::string>> found;
  for (const auto& entry : kRegistry)
    for (const auto& known : {entry.short_name, entry.key})
      if (const auto mistakes = mistakes_between(wanted, known);
          mistakes <= kMaxMistakes ||
          (wanted.size() >= kMinPiece && known.find(wanted) != known.npos))
        found.emplace_back(mistakes, known);
  for (const auto known : kDemoNames)
    if (const auto mistakes = mistakes_between(wanted, known); mistakes <= 1)
      found.emplace_back(mistakes, known);
  std::ranges::sort(found);
  std::vector<std::string> names;
  for (auto& [mistakes, known] : found) names.push_back(std::move(known));
  return names;
}

}  // namespace klein::flux2
