#include "klein/models/flux2/lora_names.h"

#include <algorithm>
#include <array>

#include "klein/models/flux2/naming.h"

namespace klein::flux2 {
namespace {

using weights::Convention;
using weights::Merged;
using weights::NameRule;

constexpr std::string_view kEnd = ".weight";

/// What may stand before a name. Some programs write several of them.
constexpr std::array<std::string_view, 13> kPrefixes = {
    "base_model.model.",
    "model.diffusion_model.",
    "diffusion_model.",
    "transformer.",
    "text_encoder.",
    "text_encoders.qwen3_4b.transformer.",
    "text_encoders.qwen3_8b.transformer.",
    "lora_unet_",
    "lora_transformer_",
    "lycoris_",
    "lora_te_",
    "lora_te1_",
    "lora_text_encoder_",
};

/// diffusers' names for projections that were fused after loading.
constexpr std::array kFusedRules = {
    NameRule{"transformer_blocks.#.attn.to_qkv.weight", "transformer_blocks.#.attn.to_q.weight", 0,
             3},
    NameRule{"transformer_blocks.#.attn.to_qkv.weight", "transformer_blocks.#.attn.to_k.weight", 1,
             3},
    NameRule{"transformer_blocks.#.attn.to_qkv.weight", "transformer_blocks.#.attn.to_v.weight", 2,
             3},
    NameRule{"transformer_blocks.#.attn.to_added_qkv.weight",
             "transformer_blocks.#.attn.add_q_proj.weight", 0, 3},
    NameRule{"transformer_blocks.#.attn.to_added_qkv.weight",
             "transformer_blocks.#.attn.add_k_proj.weight", 1, 3},
    NameRule{"transformer_blocks.#.attn.to_added_qkv.weight",
             "transformer_blocks.#.attn.add_v_proj.weight", 2, 3},
};

std::vector<std::string> matrices(const weights::Shapes& shapes) {
  std::vector<std::string> names;
  for (const auto& [name, shape] : shapes)
    if (shape.size() == 2 && name.ends_with(kEnd)) names.push_back(name);
  return names;
}

}  // namespace

LoraNames::LoraNames(const weights::Shapes& transformer, const weights::Shapes& text_encoder) {
  const auto names = matrices(transformer);
  for (const auto& spelling :
       {transformer_tensors(names, Convention::diffusers),
        transformer_tensors(names, Convention::mflux), transformer_tensors(names, Convention::bfl),
        weights::unrename(names, kFusedRules, 0)})
    for (const auto& [name, merged] : spelling)
      add(name, {PartKind::transformer, merged.sources, merged.swap_halves});
  for (const auto& name : matrices(text_encoder)) {
    constexpr std::string_view first = "model.";
    const LoraTarget target{PartKind::text_encoder, {name}, false};
    add(name, target);
    if (name.starts_with(first)) add(std::string_view(name).substr(first.size()), target);
  }
}

void LoraNames::add(std::string_view name, const LoraTarget& target) {
  std::string layer(name.substr(0, name.size() - kEnd.size()));
  targets_.emplace(layer, target);
  std::ranges::replace(layer, '.', '_');
  targets_.emplace(std::move(layer), target);
}

const LoraTarget* LoraNames::find(std::string_view layer) const {
  while (true) {
    if (const auto found = targets_.find(layer); found != targets_.end()) return &found->second;
    const auto prefix =
        std::ranges::find_if(kPrefixes, [&](auto p) { return layer.starts_with(p); });
    if (prefix == kPrefixes.end()) return nullptr;
    layer.remove_prefix(prefix->size());
  }
}

}  // namespace klein::flux2
