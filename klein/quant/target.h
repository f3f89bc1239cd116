#pragma once

#include <string>
#include <string_view>

#include "klein/quant/packed.h"

namespace klein::quant {

/// What weights are to be packed into.
struct Target {
  Format format = Format::affine;
  int bits = 8;

  bool operator==(const Target&) const = default;
};

/// "8", "4", "3", "5", "6", "mxfp8", "mxfp4", "nvfp4", "fp8".
///
/// Errors   Error(usage) for anything else
Target parse_target(std::string_view text);

/// The text that parse_target reads.
std::string target_name(const Target& target);

}  // namespace klein::quant
