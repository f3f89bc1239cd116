#pragma once

#include <string_view>

#include "klein/models/qwen3/config.h"
#include "klein/weights/renaming.h"

namespace klein::qwen3 {

/// Where the tensors of the whole language model, under transformers' names, lie in a file.
///
/// The head is unused, and so are tables that other programs store with the weights. `convention`
/// is transformers, mflux or llama_cpp.
///
/// Errors   Error(format) when two tensors claim the same name; `where` is the file
/// Source   transformers modeling_qwen3.py; llama.cpp gguf-py tensor_mapping.py
weights::Renaming renaming(const weights::Shapes& tensors, weights::Convention convention,
                           std::string_view prefix, std::string_view where);

/// Sizes that the shapes tell; eps 1e-6 and rope_theta 1e6, which they cannot, are those of every
/// Qwen3 that FLUX.2 Klein uses.
///
/// Shapes   `tensors` as renamed_shapes gives them
/// Errors   Error(shape) when a tensor that tells a size is missing or does not fit the others
TextEncoderConfig config_from(const weights::Shapes& tensors, std::string_view where);

}  // namespace klein::qwen3
