#pragma once

#include <filesystem>

#include "klein/weights/stored_tensor.h"

namespace klein::weights {

/// The tensors of a GGUF file. Errors as io::GgufFile; Error(unsupported) naming every tensor of a
/// type that cannot be decoded.
WeightFiles open_gguf(const std::filesystem::path& file);

}  // namespace klein::weights
