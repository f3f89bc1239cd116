#pragma once

#include <string>
#include <string_view>

namespace klein::tokenizer {

/// `prompt` as the one message of a user, with the assistant's turn opened and its thinking closed.
///
/// The prompt is inserted as it is, not trimmed. The result has to be tokenized as one string: a
/// prompt that begins with newlines shares a token with the newline before it.
///
/// Source   diffusers pipeline_flux2_klein.py, _get_qwen3_prompt_embeds; Qwen3's chat_template with
///          add_generation_prompt=True, enable_thinking=False
std::string wrap_prompt(std::string_view prompt);

}  // namespace klein::tokenizer
