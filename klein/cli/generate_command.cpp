// klein generate, edit and inpaint: what each of them takes. picture_run.cpp does the work.

#include <memory>

#include <CLI/CLI.hpp>

#include "klein/cli/commands.h"
#include "klein/cli/picture_run.h"

namespace klein::cli {

void add_generate_command(CLI::App& app, Context& context) {
  auto o = std::make_shared<GenerateOptions>();  // kept alive by the callback
  auto* command = app.add_subcommand("generate", "Make a picture from a prompt");
  add_generate_options(*command, *o);
  add_init_image_flags(*command, o->pictures);
  command->footer(
      "Examples:\n"
      "  klein generate \"a red apple\"\n"
      "  klein generate \"a red apple\" --seed 1 2 3 --output \"apple_{seed}.webp\"\n"
      "  klein generate \"a red apple\" --image sketch.png 0.5\n"
      "  klein generate --prompt-file prompt.txt --model FOLDER --steps 50 --guidance 4\n"
      "  echo \"a red apple\" | klein generate --prompt - --quiet --json");
  command->callback([o, &context] { run_pictures(*o, context); });
}

void add_edit_command(CLI::App& app, Context& context) {
  auto o = std::make_shared<GenerateOptions>();
  auto* command = app.add_subcommand("edit", "Make a picture from others and a prompt");
  add_generate_options(*command, *o);
  add_reference_flags(*command, o->pictures, o->request);
  command->footer(
      "Examples:\n"
      "  klein edit \"change the background to blue\" --image-paths apple.png\n"
      "  klein edit \"put image 1 left of image 2\" --image-paths apple.png pear.png\n"
      "  klein edit \"make it night\" --image-paths street.jpg --width 1x --height auto");
  command->callback([o, &context] { run_pictures(*o, context); });
}

void add_inpaint_command(CLI::App& app, Context& context) {
  auto o = std::make_shared<GenerateOptions>();
  auto* command = app.add_subcommand("inpaint", "Paint a part of a picture anew, or more of it");
  add_generate_options(*command, *o);
  add_inpaint_flags(*command, o->pictures);
  command->footer(
      "Examples:\n"
      "  klein inpaint \"a red apple\" --image table.png --mask plate.png --preserve blend\n"
      "  klein inpaint \"a wide beach\" --image beach.jpg --expand 256,0,256,0\n"
      "  klein inpaint \"a hat\" --image cut_out.png --strength 1");
  command->callback([o, &context] { run_pictures(*o, context); });
}

}  // namespace klein::cli
