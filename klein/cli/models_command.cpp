// klein models: the models that are here and have a name.

#include <memory>
#include <ostream>
#include <string>

#include <CLI/CLI.hpp>
#include <fmt/format.h>

#include "klein/cli/commands.h"
#include "klein/cli/context.h"
#include "klein/io/json.h"
#include "klein/io/text.h"

namespace klein::cli {
namespace {

constexpr const char* kDemo = "demo";

void run(bool json, Context& context) {
  const auto info = context.load_model({.model = kDemo}).info;
  const char* kind = info.is_distilled ? "distilled" : "base";
  if (json) {
    const nlohmann::json model = {{"name", kDemo},
                                  {"folder", info.folder.string()},
                                  {"kind", kind},
                                  {"default_size", info.default_size},
                                  {"default_steps", info.default_steps},
                                  {"default_guidance", info.default_guidance}};
    context.out << nlohmann::json::array({model}).dump(-1, ' ', false,
                                                       nlohmann::json::error_handler_t::replace)
                << '\n';
    return;
  }
  constexpr const char* row = "{:<6} {:<10} {:<12} {:<6} {}\n";
  context.out
      << fmt::format(fmt::runtime(row), "name", "kind", "size", "steps", "folder")
      << fmt::format(fmt::runtime(row), kDemo, kind, fmt::format("{0} x {0}", info.default_size),
                     info.default_steps, io::printable(info.folder.string(), 4000))
      << "\nAny other FLUX.2 Klein checkpoint in the layout of diffusers is named by its folder: "
         "--model FOLDER\n";
}

}  // namespace

void add_models_command(CLI::App& app, Context& context) {
  auto json = std::make_shared<bool>(false);  // kept alive by the callback
  auto* command = app.add_subcommand("models", "List the models that are here and have a name");
  command->add_flag("--json", *json, "Print one JSON array");
  command->callback([json, &context] { run(*json, context); });
}

}  // namespace klein::cli
