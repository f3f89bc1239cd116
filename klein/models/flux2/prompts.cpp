// From prompts to their embeddings: the part of Pipeline that runs the text encoder, and keeps what
// came of the last prompts.

#include <algorithm>

#include <fmt/format.h>

#include "klein/core/error.h"
#include "klein/models/flux2/pipeline.h"
#include "klein/pipeline/tensor_files.h"
#include "klein/tensor/check.h"
#include "klein/tokenizer/prompt_tokens.h"

namespace klein::flux2 {
namespace {

constexpr std::size_t kKeptEmbeddings = 8;  // a few MB each at most; saves a pass a seed

/// The batch is as large as the latents; one prompt serves all of them.
mx::array for_batch(const mx::array& embeds, int batch) {
  if (embeds.shape(0) == batch) return embeds;
  if (embeds.shape(0) != 1)
    throw Error(ErrorKind::shape, fmt::format("expected prompt embeddings for 1 or {} pictures, "
                                              "got {}",
                                              batch, describe(embeds)));
  return mx::repeat(embeds, batch, 0);
}

}  // namespace

/// What a prompt becomes depends on the LoRAs of the text encoder.
std::string Pipeline::embedding_key(const std::string& prompt) const {
  const auto& loras = adapters_.text_encoder_key;
  return fmt::format("{}:{}{}", loras.size(), loras, prompt);
}

std::vector<std::string> Pipeline::prompts_to_encode(const GenerateRequest& request,
                                                     const RequestPlan& plan) const {
  std::vector<std::string> wanted, unknown;
  if (!request.prompt_embeds) wanted.push_back(request.prompt);
  if (plan.classifier_free) wanted.push_back(request.negative_prompt.value_or(""));
  for (const auto& prompt : wanted)
    if (std::ranges::none_of(
            embeddings_, [key = embedding_key(prompt)](const auto& e) { return e.first == key; }) &&
        std::ranges::find(unknown, prompt) == unknown.end())
      unknown.push_back(prompt);
  return unknown;
}

/// Begins it: a GPU may still be at work afterwards.
void Pipeline::encode(const std::vector<std::string>& prompts) {
  std::vector<qwen3::TokenRow> rows;
  for (const auto& prompt : prompts) {
    auto tokens = tokenizer::encode_prompt(*tokenizer_, prompt, checkpoint_.max_sequence_length);
    rows.push_back({.ids = std::move(tokens.ids), .length = tokens.length});
  }
  std::vector<mx::array> embeds;
  if (streamed_text_encoder_) {
    embeds = (*streamed_text_encoder_)(rows);
  } else {
    for (const auto& row : rows) embeds.push_back((*text_encoder_)({&row, 1}));
    mx::async_eval(embeds);
  }
  for (std::size_t i = 0; i < prompts.size(); ++i)
    embeddings_.emplace_front(embedding_key(prompts[i]), std::move(embeds[i]));
}

/// Of a prompt that was encoded; it becomes the newest one.
const mx::array& Pipeline::embedding(const std::string& prompt) {
  embeddings_.splice(
      embeddings_.begin(), embeddings_,
      std::ranges::find(embeddings_, embedding_key(prompt), [](const auto& e) { return e.first; }));
  return embeddings_.front().second;
}

Pipeline::Prompts Pipeline::prompts(const GenerateRequest& request, const RequestPlan& plan) {
  const auto given = [&](const std::filesystem::path& path) {
    auto embeds = read_tensor(path, "prompt_embeds");
    const int features = checkpoint_.transformer.joint_attention_dim;
    if (embeds.ndim() != 3 || embeds.shape(2) != features || embeds.shape(0) < 1 ||
        embeds.shape(1) < 1)
      throw Error(ErrorKind::shape,
                  fmt::format("expected prompt_embeds [B, tokens, {}], got {}: {}", features,
                              describe(embeds), path.string()));
    return mx::astype(embeds, options_.dtype);
  };
  const int batch = plan.batch();
  const auto positive =
      request.prompt_embeds ? given(*request.prompt_embeds) : embedding(request.prompt);
  Prompts prompts{for_batch(positive, batch), std::nullopt};
  write_rows(request.save_prompt_embeds, "prompt_embeds", positive, request.overwrite);
  if (plan.classifier_free)
    prompts.negative = for_batch(embedding(request.negative_prompt.value_or("")), batch);
  while (embeddings_.size() > kKeptEmbeddings) embeddings_.pop_back();
  return prompts;
}

}  // namespace klein::flux2
