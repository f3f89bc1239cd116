#pragma once

#include <filesystem>
#include <string>

namespace klein {

/// The folder of the model that a person named: "demo", or the path of a folder.
///
/// The demo model is looked for in $KLEIN_MODELS, beside the program and where it was installed.
///
/// Errors   Error(not_found) saying where it was looked for
std::filesystem::path find_model(const std::string& name);

}  // namespace klein
