#include "klein/weights/lora_config.h"

#include <cmath>
#include <system_error>

#include <fmt/format.h>

#include "klein/core/error.h"
#include "klein/io/config_fields.h"
#include "klein/io/json.h"
#include "klein/io/text.h"

namespace klein::weights {
namespace {

constexpr std::uint64_t kMaxConfigBytes = std::uint64_t{16} << 20;

/// PEFT takes a pattern for a regular expression that the end of a name has to match after a dot,
/// or the whole name after `^`. Those that occur are names.
void expect_plain(const std::string& pattern, const std::string& where) {
  if (pattern.find_first_of("*+?()[]{}|\\$") != pattern.npos ||
      pattern.find('^', 1) != pattern.npos)
    throw Error(ErrorKind::unsupported,
                fmt::format("expected names of layers in alpha_pattern, got the pattern {}: {}",
                            io::in_quotes(pattern), where));
}

bool matches(std::string_view pattern, std::string_view name) {
  if (pattern.starts_with('^')) return name == pattern.substr(1);
  if (!name.ends_with(pattern)) return false;
  return name.size() == pattern.size() || name[name.size() - pattern.size() - 1] == '.';
}

}  // namespace

LoraConfig LoraConfig::read(const io::SafetensorsFile& file) {
  LoraConfig config;
  const auto entry = file.metadata().find("lora_adapter_metadata");
  if (entry != file.metadata().end()) {
    const auto where = fmt::format("lora_adapter_metadata of {}", file.path().string());
    const auto json = io::parse_json(entry->second, where);
    for (const std::string part : {"transformer.", "text_encoder."}) config.add(json, part, where);
    return config;
  }
  const auto beside = file.path().parent_path() / kLoraConfigFile;
  std::error_code error;
  if (!std::filesystem::is_regular_file(beside, error)) return config;
  nlohmann::json prefixed;  // one configuration for all layers; PEFT's names begin so
  const auto json = io::parse_json_file(beside, kMaxConfigBytes);
  std::string type = "LORA";
  const io::JsonReader reader(json, beside.string());
  reader.maybe("peft_type", type);
  if (type != "LORA") io::refuse(reader, "peft_type", "LORA");
  for (const auto& [key, value] : json.items()) prefixed["base_model.model." + key] = value;
  config.add(prefixed, "base_model.model.", beside.string());
  return config;
}

void LoraConfig::add(const nlohmann::json& config, const std::string& prefix,
                     const std::string& where) {
  const io::JsonReader json(config, where);
  Part part;
  bool is_dora = false;
  json.maybe(prefix + "lora_alpha", part.alpha);
  json.maybe(prefix + "alpha_pattern", part.alpha_pattern);
  json.maybe(prefix + "use_rslora", part.is_rank_stabilized);
  json.maybe(prefix + "use_dora", is_dora);
  if (is_dora)
    throw Error(ErrorKind::unsupported,
                fmt::format("expected a LoRA, LoKr or LoHa, got a DoRA (use_dora): {}", where));
  for (const auto& [pattern, alpha] : part.alpha_pattern) expect_plain(pattern, where);
  if (part.alpha || !part.alpha_pattern.empty()) parts_.emplace(prefix, std::move(part));
}

std::optional<double> LoraConfig::scale(std::string_view layer, int rank) const {
  for (const auto& [prefix, part] : parts_) {
    if (!layer.starts_with(prefix)) continue;
    auto alpha = part.alpha;
    for (const auto& [pattern, value] : part.alpha_pattern)
      if (matches(pattern, layer.substr(prefix.size()))) alpha = value;
    if (!alpha) return std::nullopt;
    return *alpha / (part.is_rank_stabilized ? std::sqrt(rank) : rank);
  }
  return std::nullopt;
}

}  // namespace klein::weights
