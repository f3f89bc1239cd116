#include "klein/tokenizer/pre_tokenizer.h"

#include <string>
#include <utility>

#include <fmt/format.h>

namespace klein::tokenizer {
namespace {

using nlohmann::json;

// What ByteLevel cuts with when `use_regex` is true. Source: GPT-2 encoder.py
constexpr std::string_view kByteLevelRegex =
    R"('s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+)";

constexpr std::size_t kMaxStages = 16;  // real files have two or three; each costs kilobytes

/// A flag of a stage; a stage that does not state it has `otherwise`.
bool flag(const TokenizerFile& file, const json& stage, const char* key, bool otherwise) {
  const json& value = member(stage, key);
  if (value.is_null()) return otherwise;
  if (!value.is_boolean())
    file.fail(ErrorKind::format, fmt::format("expected `pre_tokenizer` {} true or false, got {}",
                                             key, io::describe(value)));
  return value.get<bool>();
}

}  // namespace

PreTokenizer::PreTokenizer(const TokenizerFile& file) {
  const json& root = member(file.document, "pre_tokenizer");
  if (member(root, "type") != "Sequence") {
    add_stage(file, root, /*is_last=*/true);
    return;
  }
  const json& stages = member(root, "pretokenizers");
  if (!stages.is_array() || stages.empty())
    file.fail(ErrorKind::format,
              fmt::format("expected `pre_tokenizer.pretokenizers` to be an array of stages, got {}",
                          stages.is_array() ? "an empty one" : io::describe(stages)));
  if (stages.size() > kMaxStages)
    file.fail(ErrorKind::unsupported,
              fmt::format("expected `pre_tokenizer.pretokenizers` of at most {} stages, got {}",
                          kMaxStages, stages.size()));
  for (std::size_t i = 0; i < stages.size(); ++i)
    add_stage(file, stages[i], i + 1 == stages.size());
}

void PreTokenizer::add_stage(const TokenizerFile& file, const json& stage, bool is_last) {
  const json& type = member(stage, "type");
  if (is_last && type == "ByteLevel") return add_byte_level(file, stage);
  if (!is_last && type == "Split") return add_split(file, stage);
  file.fail(ErrorKind::unsupported,
            fmt::format("expected `pre_tokenizer` to {}, got {}",
                        is_last ? "end with ByteLevel" : "have Split before ByteLevel",
                        io::describe(type)));
}

void PreTokenizer::add_split(const TokenizerFile& file, const json& stage) {
  const json& behavior = member(stage, "behavior");
  if (behavior != "Isolated")
    file.fail(ErrorKind::unsupported,
              fmt::format("expected Split behavior \"Isolated\", got {}", io::describe(behavior)));
  if (flag(file, stage, "invert", false))
    file.fail(ErrorKind::unsupported, "expected Split invert false, got true");
  const json& regex = member(member(stage, "pattern"), "Regex");
  if (!regex.is_string())
    file.fail(
        ErrorKind::unsupported,
        fmt::format("expected Split pattern.Regex to be a text, got {}", io::describe(regex)));
  try {
    splitters_.emplace_back(regex.get_ref<const std::string&>());
  } catch (const Error& error) {
    file.fail(error.kind(), error.what());
  }
}

void PreTokenizer::add_byte_level(const TokenizerFile& file, const json& stage) {
  if (flag(file, stage, "add_prefix_space", true))
    file.fail(ErrorKind::unsupported, "expected ByteLevel add_prefix_space false, got true");
  if (flag(file, stage, "use_regex", true)) splitters_.emplace_back(kByteLevelRegex);
}

std::vector<Span> PreTokenizer::split(std::u16string_view text, MatchBudget& budget) const {
  std::vector<Span> spans = {{0, text.size()}};
  for (const Splitter& splitter : splitters_) spans = splitter.split(text, spans, budget);
  return spans;
}

}  // namespace klein::tokenizer
