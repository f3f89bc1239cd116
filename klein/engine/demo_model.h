#pragma once

#include <filesystem>
#include <string>
#include <string_view>
#include <vector>

namespace klein {

/// Whether a name is that of a model that comes with the program.
bool is_demo_name(std::string_view name);

/// The folder of such a model, looked for in $KLEIN_MODELS, beside the program and where it was
/// installed.
///
/// Errors   Error(not_found) saying where it was looked for
std::filesystem::path find_demo_model(const std::string& name);

/// The names of those that are there.
std::vector<std::string> demo_models_here();

}  // namespace klein
