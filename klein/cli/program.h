#pragma once

#include <string>
#include <vector>

namespace klein::cli {

struct Context;

/// Runs the program with its arguments, without its own name. Help and version are results too.
///
/// Errors   Error(usage) for arguments that it does not have; those of the commands
void run_program(const std::vector<std::string>& arguments, Context& context);

}  // namespace klein::cli
