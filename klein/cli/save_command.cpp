// klein save: a model becomes a folder, in fewer bits where that is asked for.

#include <filesystem>
#include <memory>
#include <ostream>
#include <string>
#include <vector>

#include <CLI/CLI.hpp>
#include <fmt/format.h>

#include "klein/cli/commands.h"
#include "klein/cli/context.h"
#include "klein/cli/flags.h"
#include "klein/cli/lora_flags.h"
#include "klein/cli/progress_display.h"
#include "klein/core/stopwatch.h"
#include "klein/io/json.h"
#include "klein/io/text.h"

namespace klein::cli {
namespace {

struct Options {
  EngineOptions engine;
  LoraFlags loras;
  SaveRequest request;
  bool quiet = false;
  bool json = false;
};

void run(Options& options, Context& context) {
  const Stopwatch watch;
  std::vector<std::string> warnings;
  options.engine.loras = options.loras.choices(warnings);
  ProgressDisplay display(context.err, progress_form(options.quiet, context.terminal_columns()),
                          context.terminal_columns);
  const auto show = [&](const Progress& progress) {
    display.update(progress);
    return !context.stop_requested();
  };
  const auto model = context.load_model(options.engine, show);
  const auto result = model.save(options.request, show);
  display.finish();
  warnings.insert(warnings.end(), result.warnings.begin(), result.warnings.end());
  for (const auto& warning : warnings)
    context.err << "warning: " << io::printable(warning, 4000) << '\n';
  display.say(fmt::format("{}: {} {}, {}, {}", io::printable(options.request.folder.string(), 4000),
                          result.files.size(), result.files.size() == 1 ? "file" : "files",
                          describe_bytes(static_cast<double>(result.bytes)),
                          describe_seconds(watch.seconds())));
  if (!options.json) return;
  std::vector<std::string> files;
  for (const auto& file : result.files) files.push_back(file.string());
  const nlohmann::json json = {{"folder", options.request.folder.string()},
                               {"files", files},
                               {"bytes", result.bytes},
                               {"seconds", watch.seconds()},
                               {"model", options.engine.model},
                               {"warnings", warnings}};
  context.out << json.dump(-1, ' ', false, nlohmann::json::error_handler_t::replace) << '\n';
}

}  // namespace

void add_save_command(CLI::App& app, Context& context) {
  auto o = std::make_shared<Options>();  // kept alive by the callback
  auto* command =
      app.add_subcommand("save", "Write a model to a folder, with LoRAs merged in, quantized");
  add_value(*command, "--path", value::kFile, "Folder to write: a new or empty one",
            [o = o.get()](const std::string& text) { o->request.folder = text; })
      ->required();
  add_choice(*command, "--format", {"mflux", "diffusers", "bfl"},
             "Layout of the files; mflux alone holds quantized weights [mflux]",
             [o = o.get()](std::size_t i) {
               o->request.layout = i == 0   ? SaveLayout::mflux
                                   : i == 1 ? SaveLayout::diffusers
                                            : SaveLayout::bfl;
             });
  add_model_flag(*command, o->engine.model);
  add_source_flags(*command, o->engine);
  add_quantize_flags(*command, o->engine);
  add_lora_flags(*command, o->loras);
  add_device_flag(*command, o->engine);
  command->add_flag("--quiet", o->quiet, "No progress");
  command->add_flag("--json", o->json, "Print one JSON object");
  command->footer(
      "Examples:\n"
      "  klein save --model klein-4b -q 4 --path klein-4b-4bit\n"
      "  klein save --model klein-9b --quantize-transformer 4 --quantize-text-encoder 8 --path "
      "DIR\n"
      "  klein save --model flux-2-klein-4b-Q4_K_M.gguf --format diffusers --path DIR");
  command->callback([o, &context] { run(*o, context); });
}

}  // namespace klein::cli
