#pragma once

#include <filesystem>

namespace klein {

/// The folder of the demo model, looked for in $KLEIN_MODELS, beside the program and where it was
/// installed.
///
/// Errors   Error(not_found) saying where it was looked for
std::filesystem::path find_demo_model();

}  // namespace klein
