#include "klein/models/flux2/difference.h"

#include <algorithm>
#include <string>
#include <system_error>

#include <fmt/format.h>

#include "klein/core/error.h"
#include "klein/io/file.h"
#include "klein/io/json.h"
#include "klein/io/text.h"
#include "klein/models/flux2/checkpoint.h"
#include "klein/models/flux2/lora.h"
#include "klein/weights/lora_config.h"

namespace klein::flux2 {
namespace {

namespace fs = std::filesystem;

constexpr const char* kWeights = "adapter_model.safetensors";
constexpr const char* kBase = "base_model_name_or_path";
constexpr std::uint64_t kMaxConfigBytes = std::uint64_t{16} << 20;

bool is_weight_file(const std::string& name) {
  return !name.starts_with('.') && (name.ends_with(".safetensors") || name.ends_with(".gguf") ||
                                    name.ends_with(".safetensors.index.json"));
}

/// Where the weights lie that the LoRA of a folder is added to.
fs::path base_of(const fs::path& folder) {
  const auto file = folder / weights::kLoraConfigFile;
  const auto json = io::parse_json_file(file, kMaxConfigBytes);
  const auto name = base_path_in({json, file.string()});
  std::error_code error;
  if (!fs::is_directory(folder / name, error))
    throw Error(ErrorKind::not_found,
                fmt::format("expected a folder of weights where {} leads, found none at {}: {}",
                            kBase, io::in_quotes(name), file.string()),
                "The folder has to lie where it lay when the LoRA was made.");
  auto base = fs::canonical(folder / name, error);
  if (holds_difference(base))
    throw Error(ErrorKind::unsupported,
                fmt::format("expected weights where {} leads, got another LoRA at {}: {}", kBase,
                            io::in_quotes(name), file.string()),
                "klein save writes a folder with weights of its own.");
  return base;
}

}  // namespace

std::string base_path_in(const io::JsonReader& config) {
  std::string path;
  config.require(kBase, path);
  // A name of the hub has slashes too, so only what can be nothing but a path is taken for one.
  if ((path.starts_with("./") || path.starts_with("../")) && path.find('\0') == path.npos)
    return path;
  throw Error(ErrorKind::unsupported,
              fmt::format("expected {} to be a path that begins with ./ or ../, got {}: {}", kBase,
                          io::in_quotes(path), config.where()),
              "The path leads from this folder to that of the weights. A LoRA for a model that "
              "lies elsewhere is given with --lora.");
}

bool holds_difference(const fs::path& folder) {
  if (!io::is_there(folder / weights::kLoraConfigFile) || !io::is_there(folder / kWeights))
    return false;
  std::error_code error;
  return std::ranges::none_of(fs::directory_iterator(folder, error), [](const auto& entry) {
    const auto name = entry.path().filename().string();
    return name != kWeights && is_weight_file(name);
  });
}

PartSource open_difference(const fs::path& folder, PartKind kind) {
  const auto base = base_of(folder);
  auto source = open_part(base, kind);
  Checkpoint alone;  // LoRAs are matched with models, and of this one nothing else matters
  (kind == PartKind::transformer ? alone.transformer_source : alone.text_encoder_source) = source;
  auto lora = read_lora(folder / kWeights, 1.0, alone);
  if (!lora.warnings.empty())
    throw Error(ErrorKind::format,
                fmt::format("expected layers of the {} alone, but {}: {}", part_name(kind),
                            lora.warnings.front(), folder.string()));
  source.difference = Difference{base, deltas_of(lora, kind)};
  source.path = folder;
  if (io::is_there(folder / "config.json")) source.config = folder / "config.json";
  return source;
}

}  // namespace klein::flux2
