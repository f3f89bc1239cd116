#include "klein/models/flux2/streaming.h"

#include <algorithm>
#include <string>
#include <utility>

#include <fmt/format.h>

#include "klein/models/flux2/part_loading.h"
#include "klein/tensor/pace.h"

namespace klein::flux2 {
namespace {

constexpr std::string_view kDoubleBlocks = "transformer_blocks.";
constexpr std::string_view kSingleBlocks = "single_transformer_blocks.";
constexpr std::string_view kTextLayers = "model.layers.";
// Of a picture with its prompt, with the negative one, and of references by themselves.
constexpr std::size_t kKeptRopes = 3;

std::string child_name(std::string_view list, int index) {
  return fmt::format("{}{}.", list, index);
}

/// Sizes of what is left of a transformer without its blocks.
TransformerConfig without_blocks(TransformerConfig config) {
  config.num_layers = config.num_single_layers = 0;
  return config;
}

/// What was kept of this very array, or null.
template <typename Value>
const Value* find(const std::vector<std::pair<mx::array, Value>>& kept, const mx::array& key) {
  for (const auto& [array, value] : kept)
    if (array.id() == key.id()) return &value;
  return nullptr;
}

}  // namespace

/// Where one pass stands.
struct StreamedTransformer::Pass {
  Transformer::Conditioning conditioning;
  JointAttention::Streams streams;
  mx::array joined;  ///< After the double-stream blocks.
  const TransformerInput* input;
};

StreamedTransformer::StreamedTransformer(const Checkpoint& checkpoint, const LoadOptions& options,
                                         int resident_blocks)
    : options_(options), stem_(without_blocks(checkpoint.transformer)) {
  const auto& config = checkpoint.transformer;
  const auto& source = checkpoint.transformer_source;
  Transformer whole(config);
  weights::expect_fit(whole, source.shapes, source.path.string());

  const auto is_in_block = [](const std::string& name) {
    return name.starts_with(kDoubleBlocks) || name.starts_with(kSingleBlocks);
  };
  fill_part(stem_, source.without(is_in_block), options);
  if (options_.fp8_blocks && !options_.quantize_transformer)
    options_.quantize_transformer = quant::parse_target("fp8");
  // One by one, so that only one of them is in memory both as it was and packed.
  const auto add = [&](auto& blocks, std::string_view list, int index) {
    auto part = source.child(child_name(list, index));
    if (resident_blocks-- > 0)
      fill_part(blocks.emplace_back(config), part, options_);
    else
      streamed_.push_back(std::move(part));
  };
  for (int i = 0; i < config.num_layers; ++i) add(stem_.transformer_blocks, kDoubleBlocks, i);
  double_count_ = streamed_.size();
  for (int i = 0; i < config.num_single_layers; ++i)
    add(stem_.single_transformer_blocks, kSingleBlocks, i);
}

void StreamedTransformer::set_adapters(const weights::AdapterMap& adapters) {
  if (!adapters_.empty() || !adapters.empty()) {
    conditionings_.clear();
    texts_.clear();
  }
  adapters_ = adapters;
  weights::set_adapters(stem_, adapters_);
}

void StreamedTransformer::prepare(const std::vector<mx::array>& timesteps,
                                  const std::vector<mx::array>& prompt_embeds) {
  std::vector<mx::array> all;
  const auto known = std::exchange(conditionings_, {});
  for (const auto& timestep : timesteps) {
    if (const auto* kept = find(known, timestep)) {
      conditionings_.emplace_back(timestep, *kept);
      continue;
    }
    auto c = stem_.condition(timestep, options_.dtype);
    all.push_back(c.activated);
    for (const auto* parts : {&c.image, &c.text, &c.joined})
      for (const auto& part : *parts) all.insert(all.end(), {part.shift, part.scale, part.gate});
    conditionings_.emplace_back(timestep, std::move(c));
  }
  const auto known_texts = std::exchange(texts_, {});
  for (const auto& embeds : prompt_embeds) {
    const auto* kept = find(known_texts, embeds);
    texts_.emplace_back(embeds, kept ? *kept : stem_.embed_text(embeds));
    all.push_back(texts_.back().second);
  }
  mx::async_eval(all);
}

const nn::RopeTables& StreamedTransformer::rope(
    int text_length, const std::vector<nn::PositionId>& image_ids) const {
  const auto is_it = [&](const KeptRope& kept) {
    return kept.text_length == text_length && kept.image_ids == image_ids;
  };
  const auto found = std::ranges::find_if(ropes_, is_it);
  if (found != ropes_.end())
    std::rotate(ropes_.begin(), found, found + 1);
  else
    ropes_.push_front({text_length, image_ids, stem_.rope(text_length, image_ids)});
  if (ropes_.size() > kKeptRopes) ropes_.pop_back();
  return ropes_.front().tables;
}

Transformer::Conditioning StreamedTransformer::condition(const TransformerInput& input) const {
  const auto* kept = find(conditionings_, input.timestep);
  return kept ? *kept : stem_.condition(input.timestep, input.latents.dtype());
}

mx::array StreamedTransformer::embed_text(const mx::array& prompt_embeds) const {
  const auto* kept = find(texts_, prompt_embeds);
  return kept ? *kept : stem_.embed_text(prompt_embeds);
}

/// Those that stay, and blocks [begin, end) of streamed_. `run` is given a block and its number,
/// and returns what has to be evaluated before the block goes.
template <typename Block, typename Run>
void StreamedTransformer::run_blocks(const std::vector<Block>& resident, std::size_t begin,
                                     std::size_t end, Pace& pace, const Run& run) const {
  std::size_t number = 0;
  for (const auto& block : resident) pace.start(run(block, number++));
  for (auto i = begin; i < end; ++i) {
    streamed_[(i + 1) % streamed_.size()].advise(io::Advice::will_need);
    Block block(stem_.config);
    fill_part(block, streamed_[i], options_);
    weights::set_adapters(block, adapters_, streamed_[i].prefix);
    mx::eval(run(block, number++));
  }
}

std::vector<mx::array> StreamedTransformer::operator()(std::span<const TransformerInput> passes,
                                                       Pace& pace) const {
  std::vector<Pass> states;
  for (const auto& input : passes) {
    states.push_back({.conditioning = condition(input),
                      .streams = {.image = stem_.embed_image(input.latents),
                                  .text = embed_text(input.prompt_embeds)},
                      .joined = mx::array(0),
                      .input = &input});
  }
  if (!streamed_.empty()) streamed_.front().advise(io::Advice::will_need);

  const auto run_double = [&](const DoubleBlock& block, std::size_t number) {
    std::vector<mx::array> results;
    for (auto& [conditioning, streams, joined, input] : states) {
      const auto* references = input->references;
      streams = block(streams, conditioning.image, conditioning.text, input->rope,
                      references ? &references->double_blocks[number] : nullptr);
      results.insert(results.end(), {streams.image, streams.text});
    }
    return results;
  };
  const auto run_single = [&](const SingleBlock& block, std::size_t number) {
    std::vector<mx::array> results;
    for (auto& [conditioning, streams, joined, input] : states) {
      const auto* references = input->references;
      joined = block(joined, conditioning.joined[0], input->rope,
                     references ? &references->single_blocks[number] : nullptr);
      results.push_back(joined);
    }
    return results;
  };
  run_blocks(stem_.transformer_blocks, 0, double_count_, pace, run_double);
  for (auto& state : states) {
    state.joined = join(state.streams);
    state.streams = {.image = mx::array(0), .text = mx::array(0)};  // their memory
  }
  run_blocks(stem_.single_transformer_blocks, double_count_, streamed_.size(), pace, run_single);

  std::vector<mx::array> velocities;
  for (const auto& state : states)
    velocities.push_back(
        stem_.finish(state.joined, state.conditioning, state.input->prompt_embeds.shape(1)));
  return velocities;
}

std::vector<mx::array> StreamedTransformer::operator()(
    std::span<const TransformerInput> passes) const {
  Pace pace;
  return (*this)(passes, pace);
}

KvCache StreamedTransformer::read_references(const mx::array& tokens,
                                             const nn::RopeTables& rope) const {
  KvCache cache;
  const auto conditioning =
      stem_.condition(mx::zeros({tokens.shape(0)}, tokens.dtype()), tokens.dtype());
  auto x = stem_.x_embedder(tokens);
  const auto run = [&](const auto& block, const auto& modulation, std::vector<KeyValues>& kept) {
    auto [after, heads] = block.alone(x, modulation, rope);
    // The values are columns of a wide product, which would stay in memory with them.
    heads.v = mx::contiguous(heads.v);
    x = after;
    kept.push_back(heads);
    return std::vector<mx::array>{x, heads.k, heads.v};
  };
  if (!streamed_.empty()) streamed_.front().advise(io::Advice::will_need);
  Pace pace;
  run_blocks(stem_.transformer_blocks, 0, double_count_, pace,
             [&](const DoubleBlock& block, std::size_t) {
               return run(block, conditioning.image, cache.double_blocks);
             });
  run_blocks(stem_.single_transformer_blocks, double_count_, streamed_.size(), pace,
             [&](const SingleBlock& block, std::size_t) {
               return run(block, conditioning.joined[0], cache.single_blocks);
             });
  std::vector<mx::array> all;
  for (const auto* blocks : {&cache.double_blocks, &cache.single_blocks})
    for (const auto& [k, v] : *blocks) all.insert(all.end(), {k, v});
  mx::eval(all);
  return cache;
}

StreamedTextEncoder::StreamedTextEncoder(const Checkpoint& checkpoint, const LoadOptions& options)
    : config_(checkpoint.text_encoder),
      options_(options),
      stem_(qwen3::TextEncoder::without_layers(config_, checkpoint.text_encoder_out_layers)) {
  const auto source = checkpoint.used_text_encoder_source();
  qwen3::TextEncoder whole(config_, checkpoint.text_encoder_out_layers);
  weights::expect_fit(whole, source.shapes, source.path.string());
  for (int i = 0; i < stem_.layer_count(); ++i)
    layers_.push_back(source.child(child_name(kTextLayers, i)));
  fill_part(stem_,
            source.without([](const std::string& name) { return name.starts_with(kTextLayers); }),
            options);
}

std::vector<mx::array> StreamedTextEncoder::operator()(
    std::span<const qwen3::TokenRow> prompts) const {
  std::vector<qwen3::TextEncoder::State> states;
  for (const auto& prompt : prompts) states.push_back(stem_.begin({&prompt, 1}));

  if (!layers_.empty()) layers_.front().advise(io::Advice::will_need);
  for (std::size_t i = 0; i < layers_.size(); ++i) {
    if (i + 1 < layers_.size()) layers_[i + 1].advise(io::Advice::will_need);
    qwen3::DecoderLayer layer(config_);
    fill_part(layer, layers_[i], options_);
    weights::set_adapters(layer, adapters_, layers_[i].prefix);
    std::vector<mx::array> results;
    for (auto& state : states) {
      stem_.run(layer, state);
      results.push_back(state.x);
    }
    mx::eval(results);
  }
  std::vector<mx::array> features;
  for (const auto& state : states) features.push_back(stem_.finish(state));
  mx::eval(features);
  return features;
}

}  // namespace klein::flux2
