#pragma once

#include <span>
#include <string_view>

namespace klein::ops::cuda {

/// Kernels of one file in the machine code of one kind of GPU, as the build made them.
struct KernelImage {
  std::string_view file;  ///< "common" of common.cu
  std::string_view arch;  ///< "90a", "80"
  const unsigned char* code;
};

/// All that this program holds.
std::span<const KernelImage> kernel_images();

}  // namespace klein::ops::cuda
