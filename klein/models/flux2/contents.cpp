#include "klein/models/flux2/contents.h"

#include <algorithm>
#include <array>
#include <optional>
#include <utility>

#include <fmt/format.h>
#include <fmt/ranges.h>

#include "klein/core/error.h"
#include "klein/models/flux2/naming.h"
#include "klein/models/qwen3/naming.h"

namespace klein::flux2 {
namespace {

using weights::Convention;

/// A name that only this network of this convention has.
struct Marker {
  PartKind kind;
  Convention convention;
  std::string_view name;
};

constexpr std::array kMarkers = {
    Marker{PartKind::transformer, Convention::bfl, "single_stream_modulation.lin.weight"},
    Marker{PartKind::transformer, Convention::diffusers,
           "time_guidance_embed.timestep_embedder.linear_1.weight"},
    Marker{PartKind::transformer, Convention::mflux, "time_guidance_embed.linear_1.weight"},
    Marker{PartKind::vae, Convention::bfl, "decoder.up.0.block.0.conv1.weight"},
    Marker{PartKind::vae, Convention::diffusers, "decoder.up_blocks.0.resnets.0.conv1.weight"},
    Marker{PartKind::text_encoder, Convention::transformers, "layers.0.self_attn.q_norm.weight"},
    Marker{PartKind::text_encoder, Convention::llama_cpp, "blk.0.attn_q_norm.weight"},
};

/// What a piece of a name gives away, and what to do about it.
struct Lookalike {
  std::string_view piece;
  std::string_view what;
  const char* hint = "";
};

constexpr const char* kGiveAsLora = "Give an adapter with --lora, beside the model it is for.";
constexpr const char* kKleinOnly =
    "klein runs FLUX.2 [klein] 4B and 9B: distilled, base and 9b-kv.";

constexpr std::array kLookalikes = {
    Lookalike{".lora_A.", "a LoRA", kGiveAsLora},
    Lookalike{".lora_B.", "a LoRA", kGiveAsLora},
    Lookalike{".lora_down.", "a LoRA", kGiveAsLora},
    Lookalike{".lora_up.", "a LoRA", kGiveAsLora},
    Lookalike{".lora.down.", "a LoRA", kGiveAsLora},
    Lookalike{".lokr_w1", "a LoKr adapter", kGiveAsLora},
    Lookalike{".hada_w1", "a LoHa adapter", kGiveAsLora},
    Lookalike{"controlnet_", "a ControlNet", kKleinOnly},
    Lookalike{"guidance_in.", "FLUX.2 [dev] or FLUX.1 [dev]", kKleinOnly},
    Lookalike{"time_guidance_embed.guidance_", "FLUX.2 [dev]", kKleinOnly},
    Lookalike{"single_blocks.47.", "FLUX.2 [dev]", kKleinOnly},
    Lookalike{"single_transformer_blocks.47.", "FLUX.2 [dev]", kKleinOnly},
    Lookalike{"distilled_guidance_layer.", "Chroma", kKleinOnly},
    Lookalike{"vector_in.in_layer.", "FLUX.1", kKleinOnly},
    Lookalike{"double_blocks.0.img_mod.", "FLUX.1", kKleinOnly},
    Lookalike{"single_transformer_blocks.0.norm.linear.", "FLUX.1", kKleinOnly},
    Lookalike{"label_emb.0.0.", "Stable Diffusion XL", kKleinOnly},
    Lookalike{"add_embedding.linear_1.", "Stable Diffusion XL", kKleinOnly},
    Lookalike{"input_blocks.0.0.", "Stable Diffusion", kKleinOnly},
    Lookalike{"mid_block.attentions.0.proj_in.", "Stable Diffusion", kKleinOnly},
    Lookalike{"joint_blocks.0.", "Stable Diffusion 3", kKleinOnly},
    Lookalike{"transformer_blocks.0.img_mod.1.", "Qwen-Image", kKleinOnly},
    Lookalike{"cap_embedder.", "Z-Image or Lumina", kKleinOnly},
    Lookalike{"text_model.encoder.layers.0.", "a CLIP text encoder", kKleinOnly},
    Lookalike{"encoder.block.0.layer.0.", "a T5 text encoder", kKleinOnly},
    Lookalike{"enc.blk.0.", "a T5 text encoder", kKleinOnly},
};

/// Markers of what only looks like something else where nothing of Klein's was found.
constexpr std::array kLastGuesses = {
    Lookalike{"layers.0.self_attn.q_proj.", "a language model other than Qwen3",
              "FLUX.2 [klein] reads its prompts with Qwen3 4B or 8B."},
    Lookalike{"blk.0.attn_q.", "a language model other than Qwen3",
              "FLUX.2 [klein] reads its prompts with Qwen3 4B or 8B."},
    Lookalike{"up.0.block.0.conv1.", "a decoder without its encoder",
              "full_encoder_small_decoder.safetensors holds both."},
};

[[noreturn]] void refuse(std::string_view got, std::string_view where, const char* hint) {
  throw Error(ErrorKind::unsupported,
              fmt::format("expected weights of FLUX.2 [klein], got {}: {}", got, where), hint);
}

template <typename Table>
void refuse_lookalikes(const weights::Shapes& tensors, const Table& table, std::string_view where) {
  for (const auto& lookalike : table)
    for (const auto& [name, shape] : tensors)
      if (name.find(lookalike.piece) != name.npos)
        refuse(fmt::format("{}, which has {}", lookalike.what, name), where, lookalike.hint);
}

/// What stands before the marker in `name`, or nothing when it is another name.
std::optional<std::string_view> prefix_of(std::string_view name, const Marker& marker) {
  if (!name.ends_with(marker.name)) return std::nullopt;
  name.remove_suffix(marker.name.size());
  if (!name.empty() && !name.ends_with('.')) return std::nullopt;
  // transformers' names begin with `model.`, which is no prefix.
  constexpr std::string_view kModel = "model.";
  if (marker.convention == Convention::transformers &&
      (name == kModel || name.ends_with(".model.")))
    name.remove_suffix(kModel.size());
  return name;
}

/// The networks that markers tell of, still without their tensors.
std::vector<Part> find_markers(const weights::Shapes& tensors, std::string_view where) {
  std::vector<std::pair<Part, std::string_view>> found;
  for (const auto& [name, shape] : tensors)
    for (const auto& marker : kMarkers) {
      const auto prefix = prefix_of(name, marker);
      if (!prefix) continue;
      for (const auto& [other, other_name] : found)
        if (other.kind == marker.kind)
          throw Error(ErrorKind::format,
                      fmt::format("expected one {}, got those of {} and {}: {}",
                                  part_name(marker.kind), other_name, name, where));
      found.emplace_back(Part{marker.kind, marker.convention, std::string(*prefix), {}}, name);
    }
  std::vector<Part> parts;
  for (auto& [part, name] : found) parts.push_back(std::move(part));
  return parts;
}

/// Gives every tensor to the part with the longest prefix that fits.
void deal(const weights::Shapes& tensors, std::vector<Part>& parts, std::string_view where) {
  std::vector<std::string_view> left;
  for (const auto& [name, shape] : tensors) {
    Part* owner = nullptr;
    for (auto& part : parts)
      if (name.starts_with(part.prefix) &&
          (owner == nullptr || part.prefix.size() > owner->prefix.size()))
        owner = &part;
    if (owner == nullptr && name.ends_with(".logit_scale")) {
      // ComfyUI saves a number of its wrapper with every text encoder.
      const auto encoder = std::ranges::find(parts, PartKind::text_encoder, &Part::kind);
      if (encoder != parts.end()) owner = &*encoder;
    }
    if (owner == nullptr)
      left.push_back(name);
    else
      owner->tensors.emplace(name, shape);
  }
  if (left.empty()) return;
  const auto count = left.size();
  left.resize(std::min<std::size_t>(count, 5));
  throw Error(
      ErrorKind::format,
      fmt::format("expected only tensors of FLUX.2 [klein], got {} of another network, such "
                  "as {}: {}",
                  count, fmt::join(left, ", "), where));
}

/// mflux's autoencoder and text encoder are told apart by what is in them.
void tell_mflux(Part& part) {
  const auto find = [&](std::string_view name) {
    return part.tensors.find(part.prefix + std::string(name));
  };
  if (part.kind == PartKind::vae && part.convention == Convention::diffusers) {
    const auto conv = find("decoder.conv_in.weight");
    if (conv == part.tensors.end() || conv->second.size() != 4) return;
    const auto& shape = conv->second;
    if (shape[1] == 3 && shape[2] == 3 && shape[3] != 3) part.convention = Convention::mflux;
  }
  if (part.kind == PartKind::text_encoder && find("rotary_emb.inv_freq") != part.tensors.end())
    part.convention = Convention::mflux;
}

void check_vae(const Part& part, std::string_view where) {
  if (!part.tensors.contains(part.prefix + "bn.running_mean"))
    refuse("an autoencoder without bn.running_mean, as that of FLUX.1", where,
           "FLUX.2's autoencoder is ae.safetensors or flux2-vae.safetensors.");
}

}  // namespace

std::string_view part_name(PartKind kind) {
  switch (kind) {
    case PartKind::transformer:
      return "transformer";
    case PartKind::text_encoder:
      return "text encoder";
    case PartKind::vae:
      return "autoencoder";
  }
  return "";
}

std::vector<Part> find_parts(const weights::Shapes& tensors, std::string_view where) {
  if (tensors.empty()) refuse("no tensors", where, "The file is empty.");
  refuse_lookalikes(tensors, kLookalikes, where);
  auto parts = find_markers(tensors, where);
  if (parts.empty()) {
    refuse_lookalikes(tensors, kLastGuesses, where);
    refuse(fmt::format("{} tensors of an unknown model, the first {}", tensors.size(),
                       tensors.begin()->first),
           where, kKleinOnly);
  }
  deal(tensors, parts, where);
  for (auto& part : parts) {
    tell_mflux(part);
    if (part.kind == PartKind::vae) check_vae(part, where);
  }
  std::ranges::sort(parts, {}, &Part::kind);
  return parts;
}

std::optional<std::string_view> adapter_name(const weights::Shapes& tensors) {
  for (const auto& lookalike : kLookalikes)
    for (const auto& [name, shape] : tensors)
      if (lookalike.hint == kGiveAsLora && name.find(lookalike.piece) != name.npos)
        return lookalike.what.substr(lookalike.what.find(' ') + 1);
  return std::nullopt;
}

weights::Renaming renaming(const Part& part, std::string_view where) {
  switch (part.kind) {
    case PartKind::transformer:
      return transformer_renaming(part.tensors, part.convention, part.prefix, where);
    case PartKind::text_encoder:
      return qwen3::renaming(part.tensors, part.convention, part.prefix, where);
    case PartKind::vae:
      break;
  }
  return vae_renaming(part.tensors, part.convention, part.prefix, where);
}

}  // namespace klein::flux2
