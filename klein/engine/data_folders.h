#pragma once

#include <filesystem>
#include <vector>

namespace klein {

/// Folders that may hold what comes with the program (`models/demo`, `tools`), nearest first.
std::vector<std::filesystem::path> data_folders();

/// diffusers' side of `klein bench --compare-diffusers`, a Python script.
///
/// Errors   Error(not_found) naming every folder that was searched
std::filesystem::path find_compare_script();

}  // namespace klein
