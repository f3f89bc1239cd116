#include "klein/cli/lora_flags.h"

#include <cmath>

#include <CLI/CLI.hpp>
#include <fmt/format.h>

#include "klein/cli/flags.h"
#include "klein/core/error.h"
#include "klein/io/text.h"

namespace klein::cli {
namespace {

using Words = std::vector<std::string>;

double parse_scale(const std::string& text) {
  const double scale = parse_double(text, "a LoRA's scale");
  if (!std::isfinite(scale))
    throw Error(ErrorKind::usage,
                fmt::format("expected a LoRA's scale to be a number, got {}", io::in_quotes(text)));
  return scale;
}

std::vector<Words> groups_of(const Words& words) {
  std::vector<Words> groups;
  for (const auto& word : words) {
    if (groups.empty() || word.empty()) groups.emplace_back();
    if (!word.empty()) groups.back().push_back(word);
  }
  return groups;
}

LoraChoice choice_of(const Words& words) {
  if (words.size() > 2)
    throw Error(ErrorKind::usage,
                fmt::format("expected a LoRA and its scale behind --lora, got {} and {}",
                            io::in_quotes(words[1]), io::in_quotes(words[2])),
                "Give --lora once for each LoRA.");
  return {words.at(0), words.size() == 2 ? parse_scale(words[1]) : 1.0};
}

std::vector<LoraChoice> paired(const Words& paths, const Words& scales, Words& warnings) {
  std::vector<LoraChoice> choices;
  for (const auto& path : paths)
    choices.push_back(
        {path, choices.size() < scales.size() ? parse_scale(scales[choices.size()]) : 1.0});
  if (!scales.empty() && scales.size() < paths.size())
    warnings.push_back(fmt::format("{} --lora-scales for {} LoRAs, taking 1 for the others",
                                   scales.size(), paths.size()));
  if (scales.size() > paths.size())
    warnings.push_back(fmt::format("{} --lora-scales for {} LoRAs, leaving out the last {}",
                                   scales.size(), paths.size(), scales.size() - paths.size()));
  return choices;
}

}  // namespace

std::vector<LoraChoice> LoraFlags::choices(Words& warnings) const {
  if (!words.empty() && (!paths.empty() || !scales.empty()))
    throw Error(ErrorKind::usage,
                "expected --lora alone, got --lora-paths or --lora-scales beside it");
  std::vector<LoraChoice> result;
  for (const auto& group : groups_of(words)) result.push_back(choice_of(group));
  return words.empty() ? paired(paths, scales, warnings) : result;
}

void LoraFlags::settle(EngineOptions& engine, GenerateRequest& request, Words& warnings) const {
  (merge ? engine.loras : request.loras) = choices(warnings);
  if (merge && engine.loras.empty())
    warnings.emplace_back("--merge-loras has no effect without --lora");
}

void add_lora_flags(CLI::App& command, LoraFlags& flags) {
  auto& f = flags;
  auto* lora = command.add_option_function<Words>(
      "--lora",
      [&f](const Words& words) {
        f.words.clear();
        for (const auto& group : groups_of(unguarded(words))) {
          if (!f.words.empty()) f.words.emplace_back();
          const bool has_more =
              group.size() > 1 && !is_number(group.back()) && f.take_prompt != nullptr;
          const bool taken = has_more && f.take_prompt(group.back());
          f.words.insert(f.words.end(), group.begin(), group.end() - (taken ? 1 : 0));
        }
      },
      "LoRA, and how strong [1]: a file, a name in LORA_LIBRARY_PATH or org/repo[:FILE]");
  lora->type_name(value::kFile);
  lora->inject_separator();
  command
      .add_option_function<Words>(
          "--lora-paths", [&f](const Words& words) { f.paths = unguarded(words); },
          "The same for mflux's scripts: all LoRAs")
      ->type_name(value::kFile);
  command
      .add_option_function<Words>(
          "--lora-scales", [&f](const Words& words) { f.scales = words; },
          "and how strong each of them is [1]")
      ->type_name(value::kNumber);
}

void add_merge_flag(CLI::App& command, LoraFlags& flags) {
  command.add_flag("--merge-loras", flags.merge,
                   "Merge LoRAs into the weights as they are loaded: faster steps, and more memory "
                   "where weights are packed");
}

}  // namespace klein::cli
