#include "klein/models/flux2/lora.h"

#include <algorithm>
#include <cmath>
#include <map>
#include <set>
#include <utility>

#include <fmt/format.h>
#include <fmt/ranges.h>

#include "klein/core/error.h"
#include "klein/io/text.h"
#include "klein/models/flux2/checkpoint.h"
#include "klein/models/flux2/lora_names.h"
#include "klein/weights/quantize.h"

namespace klein::flux2 {
namespace {

constexpr std::size_t kListed = 20;

/// "a, b and 3 more"
std::string listed(const std::vector<std::string>& names) {
  std::vector<std::string> shown;
  for (std::size_t i = 0; i < std::min(names.size(), kListed); ++i)
    shown.push_back(io::printable(names[i]));
  auto text = fmt::format("{}", fmt::join(shown, ", "));
  if (names.size() > kListed) text += fmt::format(" and {} more", names.size() - kListed);
  return text;
}

/// Puts the layers of a file where the model has them.
class Matcher {
 public:
  Matcher(const Checkpoint& checkpoint, Lora& lora) : checkpoint_(checkpoint), lora_(lora) {}

  void operator()(const weights::LoraFile& file) {
    const LoraNames names(checkpoint_.transformer_source.shapes,
                          checkpoint_.text_encoder_source.shapes);
    std::vector<std::string> unknown;
    for (const auto& [name, layer] : file.layers) {
      const auto* target = names.find(name);
      if (target == nullptr)
        unknown.push_back(name);
      else if (fits(name, layer, *target))
        add(name, layer, *target);
    }
    const auto count = file.layers.size() + file.unused.size();
    expect_fitting();
    unknown.insert(unknown.end(), file.unused.begin(), file.unused.end());
    if (lora_.transformer.empty() && lora_.text_encoder.empty())
      throw Error(ErrorKind::unsupported,
                  fmt::format("expected a LoRA for FLUX.2 [klein], got one that changes none of "
                              "its layers, with {}: {}",
                              count == 0 ? "no tensors" : listed(unknown), lora_.path.string()));
    if (!unknown.empty())
      lora_.warnings.push_back(fmt::format("the model has no place for {} of {} layers of {}: {}",
                                           unknown.size(), count, lora_.path.filename().string(),
                                           listed(unknown)));
  }

 private:
  const weights::Shapes& shapes(PartKind part) const {
    return part == PartKind::transformer ? checkpoint_.transformer_source.shapes
                                         : checkpoint_.text_encoder_source.shapes;
  }

  bool fits(const std::string& name, const weights::LoraLayer& layer, const LoraTarget& target) {
    std::int64_t rows = 0;
    for (const auto& weight : target.weights) rows += shapes(target.part).at(weight)[0];
    const auto columns = shapes(target.part).at(target.weights.front())[1];
    const auto size = weights::size_of(layer.matrix);
    if (size == std::pair(rows, columns)) return true;
    if (misfits_++ == 0)
      first_misfit_ = fmt::format("[{}, {}] for {}, got [{}, {}]", rows, columns,
                                  io::printable(name), size.first, size.second);
    return false;
  }

  void expect_fitting() const {
    if (misfits_ == 0) return;
    const auto more = misfits_ > 1 ? fmt::format(" and {} more that differ", misfits_ - 1) : "";
    throw Error(ErrorKind::shape,
                fmt::format("expected a LoRA of the model's size, {}{}: {}", first_misfit_, more,
                            lora_.path.string()),
                "It was made for another model, such as Klein 9B instead of 4B.");
  }

  void add(const std::string& name, const weights::LoraLayer& layer, const LoraTarget& target) {
    auto& deltas = target.part == PartKind::transformer ? lora_.transformer : lora_.text_encoder;
    const auto matrix =
        target.swap_halves ? weights::with_halves_swapped(layer.matrix) : layer.matrix;
    int row = 0;
    for (const auto& weight : target.weights) {
      const auto [known, is_new] = claimed_.emplace(weight, name);
      if (!is_new)
        throw Error(ErrorKind::format, fmt::format("expected one layer for {}, got {} and {}: {}",
                                                   weight, io::printable(known->second),
                                                   io::printable(name), lora_.path.string()));
      const int rows = static_cast<int>(shapes(target.part).at(weight)[0]);
      deltas.push_back(
          {weight, target.weights.size() == 1 ? matrix : weights::rows_of(matrix, row, row + rows),
           layer.scale});
      row += rows;
    }
  }

  const Checkpoint& checkpoint_;
  Lora& lora_;
  std::map<std::string, std::string> claimed_;  ///< Weight -> the layer that changes it.
  std::size_t misfits_ = 0;
  std::string first_misfit_;
};

/// Names and shapes of all weights below a module.
class ShapeLister : public nn::Visitor {
 public:
  void on_array(const std::string& path, mx::array& value) override {
    shapes[path] = {value.shape().begin(), value.shape().end()};
  }
  weights::Shapes shapes;
};

template <typename Module>
weights::Shapes shapes_of(Module module) {
  ShapeLister lister;
  module.visit(lister);
  return std::move(lister.shapes);
}

/// Klein 4B and 9B, as far as LoRAs are concerned.
std::vector<std::pair<std::string, Checkpoint>> published_models() {
  const auto model = [](int doubles, int singles, int heads, int text_width, int text_mlp) {
    Checkpoint c;
    c.transformer_source.shapes = shapes_of(Transformer({.in_channels = 128,
                                                         .num_layers = doubles,
                                                         .num_single_layers = singles,
                                                         .attention_head_dim = 128,
                                                         .num_attention_heads = heads,
                                                         .joint_attention_dim = 3 * text_width}));
    constexpr int layers = 36;
    const qwen3::TextEncoderConfig text{.vocab_size = 151936,
                                        .hidden_size = text_width,
                                        .intermediate_size = text_mlp,
                                        .num_hidden_layers = layers,
                                        .num_attention_heads = 32,
                                        .num_key_value_heads = 8,
                                        .head_dim = 128};
    c.text_encoder_source.shapes = shapes_of(qwen3::TextEncoder(text, {layers}));
    return c;
  };
  return {{"4B", model(5, 20, 24, 2560, 9728)}, {"9B", model(8, 24, 32, 4096, 12288)}};
}

/// Those of the deltas that are for weights below a prefix, under the names that are left of them.
std::vector<weights::LoraDelta> below(const std::string& prefix,
                                      std::vector<weights::LoraDelta> deltas) {
  std::erase_if(deltas, [&](const auto& delta) { return !delta.weight.starts_with(prefix); });
  for (auto& delta : deltas) delta.weight.erase(0, prefix.size());
  return deltas;
}

/// How many packed weights of a part the LoRAs change.
std::ptrdiff_t count_packed(const PartSource& source, const std::vector<Lora>& loras) {
  std::set<std::string, std::less<>> packed;
  for (const auto& tensor : source.files.tensors)
    if (tensor.layout) packed.insert(tensor.name);
  return std::ranges::count_if(changed_weights(loras, source), [&](const auto& name) {
    return packed.contains(source.renaming.origins.at(name).source);
  });
}

}  // namespace

Lora read_lora(const std::filesystem::path& path, double scale, const Checkpoint& checkpoint,
               std::optional<mx::Dtype> compute_dtype) {
  if (!std::isfinite(scale))
    throw Error(ErrorKind::usage, fmt::format("expected a finite scale for a LoRA, got {}: {}",
                                              scale, path.string()));
  Lora lora{.path = path, .scale = scale, .transformer = {}, .text_encoder = {}, .warnings = {}};
  auto file = weights::read_lora_file(path);
  if (compute_dtype)
    for (auto& [name, layer] : file.layers)
      layer.matrix = weights::in_dtype(layer.matrix, *compute_dtype);
  Matcher(checkpoint, lora)(file);
  return lora;
}

std::vector<std::string> models_of(const weights::LoraFile& file) {
  std::vector<std::string> names;
  std::optional<Error> refusal;
  for (const auto& [name, model] : published_models()) {
    try {
      Lora lora{.path = file.path, .transformer = {}, .text_encoder = {}, .warnings = {}};
      Matcher(model, lora)(file);
      names.push_back(name);
      refusal.reset();
    } catch (const Error& error) {
      // The larger model has all layers that the smaller one has, so it has the last word.
      if (error.kind() == ErrorKind::shape)
        refusal.reset();
      else if (names.empty())
        refusal = error;
    }
  }
  if (refusal) throw *refusal;
  return names;
}

const std::vector<weights::LoraDelta>& deltas_of(const Lora& lora, PartKind part) {
  return part == PartKind::transformer ? lora.transformer : lora.text_encoder;
}

void merge(weights::WeightMap& map, const std::vector<Lora>& loras, const PartSource& source,
           const std::optional<quant::Target>& target) {
  if (source.kind == PartKind::vae) return;
  // Rounded before LoRAs come on top, so that these meet the weights that `klein save` writes.
  if (source.difference) weights::merge(map, below(source.prefix, source.difference->deltas));
  std::vector<weights::LoraDelta> scaled;
  for (const auto& lora : loras)
    for (auto& delta : below(source.prefix, deltas_of(lora, source.kind))) {
      delta.scale *= lora.scale;
      scaled.push_back(std::move(delta));
    }
  weights::merge(map, scaled);
  if (!target) return;
  for (const auto& name : changed_weights(loras, source)) {
    if (!name.starts_with(source.prefix)) continue;
    const auto entry = map.find(name.substr(source.prefix.size()));
    if (entry == map.end()) continue;
    const auto* dense = std::get_if<mx::array>(&entry->second);
    if (dense != nullptr && weights::can_quantize(*target, dense->shape(1)))
      entry->second = weights::quantize(mx::array(*dense), *target);
  }
}

std::set<std::string> changed_weights(const std::vector<Lora>& loras, const PartSource& source) {
  std::set<std::string> names;
  if (source.kind == PartKind::vae) return names;
  if (source.difference)
    for (const auto& delta : source.difference->deltas) names.insert(delta.weight);
  for (const auto& lora : loras)
    for (const auto& delta : deltas_of(lora, source.kind)) names.insert(delta.weight);
  return names;
}

std::vector<std::string> lora_warnings(const Checkpoint& checkpoint, const LoadOptions& options) {
  std::vector<std::string> warnings;
  for (const auto& lora : options.loras)
    warnings.insert(warnings.end(), lora.warnings.begin(), lora.warnings.end());
  for (const auto& [source, target] :
       {std::pair{&checkpoint.transformer_source, &options.quantize_transformer},
        std::pair{&checkpoint.text_encoder_source, &options.quantize_text_encoder}}) {
    const auto count = *target ? 0 : count_packed(*source, options.loras);
    if (count != 0)
      warnings.push_back(
          fmt::format("{} packed weights of the {} become bfloat16, since a LoRA is "
                      "merged into them (-q packs them again)",
                      count, part_name(source->kind)));
  }
  return warnings;
}

}  // namespace klein::flux2
