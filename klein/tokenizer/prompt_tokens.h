#pragma once

#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "klein/tokenizer/tokenizer.h"

namespace klein::tokenizer {

/// What the text encoder gets for one prompt.
///
/// Shapes   ids and attention_mask [max_length]
struct PromptTokens {
  std::vector<int> ids;             ///< Padded on the right.
  std::vector<int> attention_mask;  ///< 1 for a token, 0 for padding.
  int length = 0;                   ///< Tokens before the padding.
  bool truncated = false;           ///< The prompt was too long, its end is missing.
};

/// The chat template around `prompt`, cut or padded on the right to `max_length` tokens.
///
/// A prompt that is too long loses the end of the template too, as in diffusers. A padding token
/// inside the prompt is a token like any other: its mask is 1.
///
/// Errors   Error(usage) when `max_length` is below 1; Error(format) without a `pad_token` in
///          tokenizer_config.json; as Tokenizer::encode
/// Source   diffusers pipeline_flux2_klein.py, _get_qwen3_prompt_embeds
PromptTokens encode_prompt(const Tokenizer& tokenizer, std::string_view prompt,
                           int max_length = 512);

/// Which text is tokenized: a prompt inside the chat template, or the text alone.
enum class TextForm { prompt, raw };

/// The ids of each text, neither cut nor padded: what `klein tokenize` prints.
///
/// Errors   as Tokenizer::encode
std::vector<std::vector<int>> encode_texts(const Tokenizer& tokenizer,
                                           std::span<const std::string> texts, TextForm form);

}  // namespace klein::tokenizer
