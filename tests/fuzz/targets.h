#pragma once

#include <array>
#include <string_view>

/// What reads bytes from outside, one function each: hostile input goes in, klein::Error is the
/// only exception that may come out, and what does come out has to be what the headers promise.
namespace klein::fuzz {

void safetensors(std::string_view input);  ///< A .safetensors file.
void gguf(std::string_view input);         ///< A .gguf file, its tensors decoded.
void json(std::string_view input);         ///< JSON, and the configs of the networks.
void tokenizer(std::string_view input);    ///< tokenizer.json.
void text(std::string_view input);         ///< A prompt, with a tokenizer that is in order.
void index(std::string_view input);        ///< model.safetensors.index.json over fixed files.
void packed(std::string_view input);       ///< Tensors, see packed_fuzz.cpp, gathered and decoded.
void names(std::string_view input);        ///< Names and shapes of tensors, see names_fuzz.cpp.
void listing(std::string_view input);      ///< The hub's answer about a repository.
void picture(std::string_view input);      ///< A PNG, JPEG or WebP file; also EXIF alone.

struct Target {
  std::string_view name;  ///< Also of its folder in corpus/.
  void (*run)(std::string_view input);
};

inline constexpr std::array kTargets = {
    Target{"safetensors", safetensors}, Target{"gguf", gguf},   Target{"json", json},
    Target{"tokenizer", tokenizer},     Target{"text", text},   Target{"index", index},
    Target{"packed", packed},           Target{"names", names}, Target{"listing", listing},
    Target{"picture", picture},
};

/// Runs a target; true when the input was taken, false when it was refused. A refusal that calls
/// itself a bug of this project, and any other exception, comes out.
bool run(const Target& target, std::string_view input);

}  // namespace klein::fuzz
