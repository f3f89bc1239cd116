#pragma once

#include <string>

namespace CLI {
class App;
}

namespace klein::cli {

/// Scripts that complete `klein`'s commands, flags and their values, made from the program's own
/// table of them.
std::string bash_completions(const CLI::App& app);
std::string zsh_completions(const CLI::App& app);
std::string fish_completions(const CLI::App& app);

}  // namespace klein::cli
