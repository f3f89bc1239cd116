#pragma once

#include <string>

#include "klein/core/error.h"

namespace CLI {
class App;
class ParseError;
}  // namespace CLI

namespace klein::cli {

/// The status that the program ends with for each kind of error.
int exit_code(ErrorKind kind);

/// What a person reads: "klein: error: MESSAGE" and, if there is one, "hint: HINT", each on one
/// line with control characters escaped.
std::string describe(const Error& error);

/// The usage error that CLI11 found in the arguments of `app`, in this project's words.
Error usage_error(const CLI::App& app, const CLI::ParseError& error);

}  // namespace klein::cli
