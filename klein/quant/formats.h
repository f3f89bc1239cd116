#pragma once

#include <array>
#include <cstddef>
#include <string_view>

#include "klein/quant/packed.h"

namespace klein::quant {

/// Columns and bytes of a ggml block; zeros for formats that have none.
struct FormatRow {
  std::string_view name;
  int columns = 0;
  int bytes = 0;
};

/// In the order of the enumeration.
inline constexpr std::array<FormatRow, 17> kFormats{{{"affine"},
                                                     {"FP8 E4M3"},
                                                     {"FP8 E5M2"},
                                                     {"INT8"},
                                                     {"MXFP8"},
                                                     {"MXFP4"},
                                                     {"NVFP4"},
                                                     {"Q4_0", 32, 18},
                                                     {"Q4_1", 32, 20},
                                                     {"Q5_0", 32, 22},
                                                     {"Q5_1", 32, 24},
                                                     {"Q8_0", 32, 34},
                                                     {"Q2_K", 256, 84},
                                                     {"Q3_K", 256, 110},
                                                     {"Q4_K", 256, 144},
                                                     {"Q5_K", 256, 176},
                                                     {"Q6_K", 256, 210}}};

constexpr const FormatRow& row_of(Format format) {
  return kFormats[static_cast<std::size_t>(format)];
}

}  // namespace klein::quant
