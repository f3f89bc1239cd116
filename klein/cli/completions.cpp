#include "klein/cli/completions.h"

#include <algorithm>
#include <optional>
#include <string_view>
#include <vector>

#include <CLI/CLI.hpp>
#include <fmt/format.h>
#include <fmt/ranges.h>

#include "klein/cli/flags.h"
#include "klein/engine/find_model.h"

namespace klein::cli {
namespace {

enum class Kind { none, text, file, model, words };

struct Flag {
  std::vector<std::string> names;  ///< With their dashes; empty for a positional argument.
  std::string help;
  Kind kind = Kind::none;
  std::vector<std::string> words;  ///< Of Kind::words.
  bool is_list = false;            ///< Takes every value up to the next flag.
};

struct Command {
  std::string name;
  std::string help;
  std::vector<Flag> flags;
};

std::string joined_model_names() {
  return fmt::format("{}", fmt::join(model_names(), " "));
}

std::vector<std::string> split(const std::string& text, char separator) {
  return CLI::detail::split(text, separator);
}

Kind kind_of(const std::string& type) {
  if (type == value::kFile) return Kind::file;
  if (type == value::kModel) return Kind::model;
  return type.empty() || type == value::kText || type == value::kNumber ? Kind::text : Kind::words;
}

Flag read_flag(const CLI::Option& option) {
  Flag flag{.names = {}, .help = option.get_description(), .kind = Kind::none, .words = {}};
  for (const auto& name : option.get_snames()) flag.names.push_back("-" + name);
  for (const auto& name : option.get_lnames()) flag.names.push_back("--" + name);
  if (option.get_items_expected_max() == 0) return flag;
  const auto type = option.get_type_name();
  flag.kind = kind_of(type);
  if (flag.kind == Kind::words) flag.words = split(type, '|');
  flag.is_list = option.get_items_expected_max() > 1;
  return flag;
}

Command read_command(const CLI::App& app) {
  Command command{.name = app.get_name(), .help = app.get_description(), .flags = {}};
  for (const auto* option : app.get_options()) command.flags.push_back(read_flag(*option));
  return command;
}

std::vector<Command> read_commands(const CLI::App& app) {
  std::vector<Command> commands;
  for (const auto* sub : app.get_subcommands([](const CLI::App*) { return true; }))
    commands.push_back(read_command(*sub));
  return commands;
}

std::vector<std::string> names_of(const std::vector<Command>& commands) {
  std::vector<std::string> names;
  for (const auto& command : commands) names.push_back(command.name);
  return names;
}

std::vector<std::string> names_of(const std::vector<Flag>& flags) {
  std::vector<std::string> names;
  for (const auto& flag : flags) names.insert(names.end(), flag.names.begin(), flag.names.end());
  return names;
}

/// What stands where no flag does: `bash zsh fish`, or a model.
std::vector<std::string> positional_words(const Command& command) {
  for (const auto& flag : command.flags) {
    if (flag.names.empty() && flag.kind == Kind::words) return flag.words;
    if (flag.names.empty() && flag.kind == Kind::model) return model_names();
  }
  return {};
}

/// Whether a file may stand there.
bool takes_files(const Command& command) {
  return std::ranges::any_of(command.flags, [](const Flag& flag) {
    return flag.names.empty() && (flag.kind == Kind::file || flag.kind == Kind::model);
  });
}

std::string replaced(std::string text, std::string_view what, std::string_view with) {
  for (auto at = text.find(what); at != std::string::npos; at = text.find(what, at + with.size()))
    text.replace(at, what.size(), with);
  return text;
}

/// Inside single quotes, as all three shells but fish read them.
std::string in_single_quotes(const std::string& text) {
  return "'" + replaced(text, "'", "'\\''") + "'";
}

std::string bash_values(const Flag& flag) {
  switch (flag.kind) {
    case Kind::file:
      return "_klein_reply -f";
    case Kind::model:
      return fmt::format("_klein_reply -f -W '{}'", joined_model_names());
    case Kind::words:
      return fmt::format("_klein_reply -W '{}'", fmt::join(flag.words, " "));
    default:
      return ":";
  }
}

std::string zsh_values(const Flag& flag) {
  switch (flag.kind) {
    case Kind::file:
      return "_files";
    case Kind::model:
      return fmt::format("{{_alternative \"names\\:name\\:({})\" \"files\\:file\\:_files\"}}",
                         joined_model_names());
    case Kind::words:
      return fmt::format("({})", fmt::join(flag.words, " "));
    default:
      return " ";
  }
}

/// One argument of zsh's _arguments.
std::string zsh_spec(const Flag& flag, const std::string& name) {
  std::string help = replaced(flag.help, "\\", "\\\\");
  for (const char* special : {"[", "]", ":"})
    help = replaced(help, special, std::string("\\") + special);
  const char* repeats = flag.is_list ? "*" : "";
  if (flag.names.empty())
    return in_single_quotes(
        fmt::format("{}:{}:{}", flag.is_list ? "*" : "1", help, zsh_values(flag)));
  auto spec = fmt::format("{}{}[{}]", repeats, name, help);
  if (flag.kind != Kind::none) spec += ":value:" + zsh_values(flag);
  return in_single_quotes(spec);
}

std::string fish_quoted(const std::string& text) {
  return "'" + replaced(replaced(text, "\\", "\\\\"), "'", "\\'") + "'";
}

std::string fish_values(const Flag& flag) {
  switch (flag.kind) {
    case Kind::file:
      return " -r -F";
    case Kind::model:
      return fmt::format(" -r -F -a '{}'", joined_model_names());
    case Kind::words:
      return fmt::format(" -x -a '{}'", fmt::join(flag.words, " "));
    case Kind::text:
      return " -x";
    case Kind::none:
      return "";
  }
  return "";
}

std::string fish_line(const std::string& condition, const Flag& flag) {
  auto line = fmt::format("complete -c klein -n {}", fish_quoted(condition));
  for (const auto& name : flag.names)
    line += name.starts_with("--") ? " -l " + name.substr(2) : " -s " + name.substr(1);
  return line + fmt::format("{} -d {}\n", fish_values(flag), fish_quoted(flag.help));
}

}  // namespace

std::string bash_completions(const CLI::App& app) {
  const auto commands = read_commands(app);
  const auto root = read_command(app);
  std::string values, flags;
  for (const auto& command : commands) {
    for (const auto& flag : command.flags)
      if (flag.kind != Kind::none)
        for (const auto& name : flag.names)
          values +=
              fmt::format("    {}:{}) {}; return ;;\n", command.name, name, bash_values(flag));
    auto words = positional_words(command);
    for (auto& name : names_of(command.flags)) words.push_back(std::move(name));
    flags += fmt::format("    {}) _klein_reply {}-W '{}' ;;\n", command.name,
                         takes_files(command) ? "-f " : "", fmt::join(words, " "));
  }
  return fmt::format(R"(# bash completions of klein: source <(klein completions bash)
_klein_reply() {{
  local IFS=$'\n' word="${{COMP_WORDS[COMP_CWORD]}}" words=() action=()
  while [ $# -gt 0 ]; do
    case "$1" in
      -W) words=("${{2// /$'\n'}}"); shift 2 ;;
      *) action+=("$1"); compopt -o filenames 2>/dev/null; shift ;;
    esac
  done
  COMPREPLY=($(compgen ${{action[@]+"${{action[@]}}"}} -W "${{words[*]}}" -- "$word"))
}}

_klein() {{
  COMPREPLY=()
  local command="${{COMP_WORDS[1]}}" previous="${{COMP_WORDS[COMP_CWORD-1]}}"
  if [ "$COMP_CWORD" -eq 1 ]; then
    _klein_reply -W '{} {}'
    return
  fi
  case "$command:$previous" in
{}  esac
  case "$command" in
{}  esac
}}
complete -F _klein klein
)",
                     fmt::join(names_of(commands), " "), fmt::join(names_of(root.flags), " "),
                     values, flags);
}

std::string zsh_completions(const CLI::App& app) {
  const auto commands = read_commands(app);
  std::string list, cases, options;
  for (const auto& flag : read_command(app).flags)
    for (const auto& name : flag.names) options += " \\\n      " + zsh_spec(flag, name);
  for (const auto& command : commands) {
    list +=
        "    " + in_single_quotes(command.name + ":" + replaced(command.help, ":", "\\:")) + "\n";
    cases += fmt::format("    {})\n      _arguments", command.name);
    for (const auto& flag : command.flags) {
      if (flag.names.empty()) cases += " \\\n        " + zsh_spec(flag, "");
      for (const auto& name : flag.names) cases += " \\\n        " + zsh_spec(flag, name);
    }
    cases += " ;;\n";
  }
  return fmt::format(R"(#compdef klein
# zsh completions of klein: source <(klein completions zsh)
_klein() {{
  local -a commands
  commands=(
{}  )
  if (( CURRENT == 2 )); then
    _describe -t commands command commands
    _arguments{}
    return
  fi
  shift words
  (( CURRENT-- ))
  case $words[1] in
{}  esac
}}
if [ "$funcstack[1]" = _klein ]; then
  _klein "$@"
else
  compdef _klein klein
fi
)",
                     list, options, cases);
}

std::string fish_completions(const CLI::App& app) {
  const auto commands = read_commands(app);
  constexpr const char* no_command = "__fish_use_subcommand";
  std::string script =
      "# fish completions of klein: klein completions fish | source\n"
      "complete -c klein -f\n";
  for (const auto& flag : read_command(app).flags) script += fish_line(no_command, flag);
  for (const auto& command : commands)
    script += fmt::format("complete -c klein -n {} -a {} -d {}\n", no_command, command.name,
                          fish_quoted(command.help));
  for (const auto& command : commands) {
    const auto condition = "__fish_seen_subcommand_from " + command.name;
    for (const auto& flag : command.flags)
      if (!flag.names.empty()) script += fish_line(condition, flag);
    if (const auto words = positional_words(command); !words.empty())
      script += fmt::format("complete -c klein -n {}{} -a '{}'\n", fish_quoted(condition),
                            takes_files(command) ? " -F" : "", fmt::join(words, " "));
  }
  return script;
}

}  // namespace klein::cli
