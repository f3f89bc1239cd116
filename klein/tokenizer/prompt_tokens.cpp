#include "klein/tokenizer/prompt_tokens.h"

#include <algorithm>
#include <cstddef>

#include <fmt/format.h>

#include "klein/core/error.h"
#include "klein/tokenizer/chat_template.h"

namespace klein::tokenizer {

PromptTokens encode_prompt(const Tokenizer& tokenizer, std::string_view prompt, int max_length) {
  if (max_length < 1)
    throw Error(ErrorKind::usage,
                fmt::format("expected a prompt length of at least 1 token, got {}", max_length));
  const auto padding_id = tokenizer.padding_id();
  if (!padding_id)
    throw Error(ErrorKind::format,
                fmt::format("expected `pad_token` in tokenizer_config.json, got none: {}",
                            tokenizer.path().parent_path().string()));

  PromptTokens tokens;
  tokens.ids = tokenizer.encode(wrap_prompt(prompt));
  const auto row_length = static_cast<std::size_t>(max_length);
  tokens.truncated = tokens.ids.size() > row_length;
  const std::size_t length = std::min(tokens.ids.size(), row_length);
  tokens.length = static_cast<int>(length);
  tokens.ids.resize(length);
  tokens.ids.resize(row_length, *padding_id);
  tokens.attention_mask.assign(length, 1);
  tokens.attention_mask.resize(row_length, 0);
  return tokens;
}

std::vector<std::vector<int>> encode_texts(const Tokenizer& tokenizer,
                                           std::span<const std::string> texts, TextForm form) {
  std::vector<std::vector<int>> rows;
  for (const std::string& text : texts)
    rows.push_back(tokenizer.encode(form == TextForm::prompt ? wrap_prompt(text) : text));
  return rows;
}

}  // namespace klein::tokenizer
