#include "klein/tokenizer/chat_template.h"

namespace klein::tokenizer {

std::string wrap_prompt(std::string_view prompt) {
  std::string text = "<|im_start|>user\n";
  text += prompt;
  text += "<|im_end|>\n<|im_start|>assistant\n<think>\n\n</think>\n\n";
  return text;
}

}  // namespace klein::tokenizer
