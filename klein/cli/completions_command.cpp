// klein completions: a script for the person's shell.

#include <memory>
#include <ostream>
#include <string>

#include <CLI/CLI.hpp>

#include "klein/cli/commands.h"
#include "klein/cli/completions.h"
#include "klein/cli/context.h"
#include "klein/cli/flags.h"

namespace klein::cli {

void add_completions_command(CLI::App& app, Context& context) {
  auto shell = std::make_shared<std::size_t>(0);  // kept alive by the callback
  auto* command = app.add_subcommand("completions", "Print a completion script for a shell");
  add_choice(*command, "SHELL", {"bash", "zsh", "fish"}, "Whose script", [shell](std::size_t i) {
    *shell = i;
  })->required();
  command->footer(
      "Examples:\n"
      "  source <(klein completions bash)\n"
      "  klein completions zsh > ~/.zfunc/_klein\n"
      "  klein completions fish > ~/.config/fish/completions/klein.fish");
  command->callback([shell, &app, &context] {
    context.out << (*shell == 0   ? bash_completions(app)
                    : *shell == 1 ? zsh_completions(app)
                                  : fish_completions(app));
  });
}

}  // namespace klein::cli
