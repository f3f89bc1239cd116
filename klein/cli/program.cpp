#include "klein/cli/program.h"

#include <algorithm>

#include <CLI/CLI.hpp>

#include "klein/cli/commands.h"
#include "klein/cli/context.h"
#include "klein/cli/error_report.h"
#include "klein/cli/flags.h"

namespace klein::cli {
namespace {

void add_all_commands(CLI::App& app, Context& context) {
  app.name("klein");
  app.set_version_flag("--version", "klein " KLEIN_VERSION, "Print the version");
  app.set_help_flag("-h,--help", "Print this help");
  app.require_subcommand(1);
  app.get_formatter()->column_width(34);
  app.footer(
      "Examples:\n"
      "  klein generate \"a red apple on a blue background\"\n"
      "  klein generate \"a red apple\" --model FOLDER --seed 7 --output apple.png\n"
      "  klein edit \"change the background to blue\" --image-paths apple.png\n"
      "  klein inpaint \"a pear\" --image table.png --mask plate.png\n"
      "  klein bench --model FOLDER --width 256 --height 256\n"
      "  klein save --model FOLDER -q 4 --path NEW_FOLDER\n"
      "  klein tokenize --model FOLDER \"a red apple\"\n"
      "\n"
      "`klein COMMAND --help` lists the flags of a command.");
  add_generate_command(app, context);
  add_edit_command(app, context);
  add_inpaint_command(app, context);
  add_tokenize_command(app, context);
  add_bench_command(app, context);
  add_save_command(app, context);
  add_info_command(app, context);
  add_models_command(app, context);
  add_lora_command(app, context);
  add_completions_command(app, context);
}

}  // namespace

void run_program(const std::vector<std::string>& arguments, Context& context) {
  CLI::App app("FLUX.2 [klein]: pictures from text");
  add_all_commands(app, context);
  std::vector<std::string> reversed(arguments.rbegin(), arguments.rend());  // as CLI11 wants them
  std::ranges::transform(reversed, reversed.begin(), guarded);
  try {
    app.parse(std::move(reversed));
  } catch (const CLI::Success& request) {
    app.exit(request, context.out, context.out);
  } catch (const CLI::ParseError& error) {
    throw usage_error(app, error);
  }
}

}  // namespace klein::cli
