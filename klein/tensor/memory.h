#pragma once

#include <cstdint>
#include <filesystem>
#include <optional>

#include "klein/tensor/mlx.h"

namespace klein {

/// The most memory used so far: of the GPU's own where work runs there, else of this process with
/// the pages of mapped files that it touched.
std::uint64_t peak_memory_bytes();

/// The most that this process may come to hold without swapping: what is free now, with what it
/// holds already; of the GPU's own memory where work runs there.
std::uint64_t usable_memory_bytes();

/// What a Linux system lets its processes still take: MemAvailable of /proc/meminfo, or less where
/// a control group of this process (version 1 or 2) allows less. `root` is where the system's
/// files are; nothing when they do not say.
std::optional<std::uint64_t> linux_available_bytes(const std::filesystem::path& root = "/");

}  // namespace klein
