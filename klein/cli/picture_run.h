#pragma once

#include "klein/cli/context.h"
#include "klein/cli/generate_options.h"

namespace klein::cli {

/// Settles the options, loads the model, makes a picture for every seed, writes the files and the
/// report.
///
/// Errors   as GenerateOptions::settle, Engine and OutputFiles
void run_pictures(GenerateOptions& options, Context& context);

}  // namespace klein::cli
