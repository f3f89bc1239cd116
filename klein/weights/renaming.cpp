#include "klein/weights/renaming.h"

#include <algorithm>
#include <charconv>
#include <optional>
#include <set>

#include <fmt/format.h>
#include <fmt/ranges.h>

#include "klein/core/error.h"

namespace klein::weights {
namespace {

constexpr int kMaxNumber = 9999;
constexpr std::int64_t kMaxSide = 16777216;

std::string describe(const Shape& shape) {
  return fmt::format("[{}]", fmt::join(shape, ", "));
}

/// The word at the start of `text`, which loses it and its dot.
std::string_view take_word(std::string_view& text) {
  const auto dot = text.find('.');
  const auto word = text.substr(0, dot);
  text.remove_prefix(dot == text.npos ? text.size() : dot + 1);
  return word;
}

/// A number as names write it: no sign, no leading zero.
std::optional<int> number(std::string_view word) {
  int value = 0;
  const auto [end, failure] = std::from_chars(word.data(), word.data() + word.size(), value);
  const bool whole = failure == std::errc{} && end == word.data() + word.size();
  if (!whole || value < 0 || value > kMaxNumber || fmt::format("{}", value) != word)
    return std::nullopt;
  return value;
}

/// What the wildcards of `pattern` stand for in `name`, or nothing when it does not match.
std::optional<std::vector<std::string_view>> match(std::string_view pattern,
                                                   std::string_view name) {
  std::vector<std::string_view> found;
  while (!pattern.empty() && !name.empty()) {
    const auto expected = take_word(pattern);
    if (expected == "*") {
      found.push_back(name);
      return found;
    }
    const auto word = take_word(name);
    const bool numbered = expected == "#" || expected == "~";
    if (numbered ? !number(word) : expected != "%" && expected != word) return std::nullopt;
    if (numbered || expected == "%") found.push_back(word);
  }
  if (!pattern.empty() || !name.empty()) return std::nullopt;
  return found;
}

std::string put_in(std::string_view pattern, const std::vector<std::string_view>& found,
                   int count_from_end) {
  std::string name;
  auto next = found.begin();
  for (const char c : pattern) {
    if (c == '~')
      name += fmt::format("{}", count_from_end - 1 - number(*next++).value_or(0));
    else if (c == '#' || c == '%' || c == '*')
      name += *next++;
    else
      name += c;
  }
  return name;
}

/// `from`, counting from the other end where `to` does: counting so twice changes nothing.
std::string mirrored(std::string_view from, std::string_view to) {
  std::string pattern(from);
  const auto counted = to.find('~');
  if (counted == to.npos) return pattern;
  const auto place = std::ranges::count(to.substr(0, counted), '#');
  std::size_t at = pattern.find('#');
  for (auto i = place; i > 0; --i) at = pattern.find('#', at + 1);
  pattern[at] = '~';
  return pattern;
}

/// Whether it is the shape of a 1x1 convolution's weight.
bool is_pointwise(const Shape& shape) {
  return shape.size() == 4 && shape[2] == 1 && shape[3] == 1;
}

void add(Renaming& renaming, std::string name, Origin origin, std::string_view where) {
  const auto [place, is_new] = renaming.origins.try_emplace(std::move(name), origin);
  if (!is_new)
    throw Error(ErrorKind::format,
                fmt::format("expected one tensor for {}, got {} and {}: {}", place->first,
                            place->second.source, origin.source, where));
}

}  // namespace

std::string_view convention_name(Convention convention) {
  switch (convention) {
    case Convention::diffusers:
      return "diffusers";
    case Convention::transformers:
      return "transformers";
    case Convention::bfl:
      return "BFL";
    case Convention::llama_cpp:
      return "llama.cpp";
    case Convention::mflux:
      return "mflux";
  }
  return "";
}

Renaming rename(const Shapes& tensors, std::string_view prefix, std::span<const NameRule> rules,
                int count_from_end, std::string_view where) {
  Renaming renaming;
  for (const auto& [source, shape] : tensors) {
    if (!source.starts_with(prefix)) {
      renaming.unused.push_back(source);
      continue;
    }
    const auto name = std::string_view(source).substr(prefix.size());
    const auto rule =
        std::ranges::find_if(rules, [&](const auto& r) { return match(r.from, name).has_value(); });
    if (rule == rules.end()) {
      add(renaming, std::string(name), {.source = source}, where);
      continue;
    }
    if (rule->to.empty()) {
      renaming.unused.push_back(source);
      continue;
    }
    const auto found = *match(rule->from, name);
    for (auto r = rule; r != rules.end() && r->from == rule->from; ++r)
      add(renaming, put_in(r->to, found, count_from_end),
          {.source = source,
           .part = r->part,
           .parts = r->parts,
           .swap_halves = r->swap_halves,
           .squeeze = r->squeeze && is_pointwise(shape)},
          where);
  }
  return renaming;
}

std::map<std::string, Merged> unrename(const std::vector<std::string>& weights,
                                       std::span<const NameRule> rules, int count_from_end) {
  std::map<std::string, Merged> merged;
  for (const auto& name : weights) {
    const auto rule = std::ranges::find_if(
        rules, [&](const auto& r) { return !r.to.empty() && match(r.to, name).has_value(); });
    if (rule == rules.end()) {
      merged[name].sources = {name};
      continue;
    }
    auto& tensor =
        merged[put_in(mirrored(rule->from, rule->to), *match(rule->to, name), count_from_end)];
    tensor.swap_halves = rule->swap_halves;
    tensor.squeeze = rule->squeeze;
    tensor.sources.resize(static_cast<std::size_t>(rule->parts));
    tensor.sources[static_cast<std::size_t>(rule->part)] = name;
  }
  return merged;
}

Shapes renamed_shapes(const Renaming& renaming, const Shapes& tensors, std::string_view where) {
  Shapes renamed;
  for (const auto& [name, origin] : renaming.origins) {
    const auto source = tensors.find(origin.source);
    if (source == tensors.end())
      throw Error(ErrorKind::internal,
                  fmt::format("renaming names {}, which is not in {}", origin.source, where));
    auto shape = source->second;
    if (origin.parts > 1 || origin.swap_halves) {
      const int pieces = origin.swap_halves ? 2 * origin.parts : origin.parts;
      if (shape.empty() || shape[0] % pieces != 0)
        throw Error(ErrorKind::shape,
                    fmt::format("expected {} to have a multiple of {} rows, got {}: {}",
                                origin.source, pieces, describe(shape), where));
      shape[0] /= origin.parts;
    }
    if (origin.layout == ConvLayout::channels_last && shape.size() == 4)
      shape = {shape[0], shape[3], shape[1], shape[2]};
    if (origin.squeeze) shape.resize(2);
    renamed.emplace(name, std::move(shape));
  }
  return renamed;
}

int count_children(const Shapes& tensors, std::string_view prefix, std::string_view where) {
  std::set<int> numbers;
  for (auto t = tensors.lower_bound(prefix); t != tensors.end() && t->first.starts_with(prefix);
       ++t) {
    auto rest = std::string_view(t->first).substr(prefix.size());
    if (const auto n = number(take_word(rest))) numbers.insert(*n);
  }
  int expected = 0;
  for (const int n : numbers)
    if (n != expected++)
      throw Error(ErrorKind::shape,
                  fmt::format("expected {}0 to {}, got none of number {}: {}", prefix,
                              *numbers.rbegin(), expected - 1, where),
                  "Part of the checkpoint is missing.");
  return expected;
}

int side_of(const Shapes& tensors, std::string_view name, std::size_t rank, std::size_t axis,
            std::string_view where) {
  const auto found = tensors.find(name);
  if (found == tensors.end())
    throw Error(ErrorKind::shape, fmt::format("expected a tensor {}, got none: {}", name, where),
                "Part of the checkpoint is missing.");
  const auto& shape = found->second;
  if (shape.size() != rank || shape[axis] < 1 || shape[axis] > kMaxSide)
    throw Error(ErrorKind::shape, fmt::format("expected {} to have {} axes of 1 to {}, got {}: {}",
                                              name, rank, kMaxSide, describe(shape), where));
  return static_cast<int>(shape[axis]);
}

}  // namespace klein::weights
