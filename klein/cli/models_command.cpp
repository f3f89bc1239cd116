// klein models: the models that have a name, and which of them are on this machine.

#include <memory>
#include <ostream>
#include <string>
#include <vector>

#include <CLI/CLI.hpp>
#include <fmt/format.h>

#include "klein/cli/commands.h"
#include "klein/cli/context.h"
#include "klein/cli/progress_display.h"
#include "klein/engine/demo_model.h"
#include "klein/engine/find_model.h"
#include "klein/io/json.h"
#include "klein/io/text.h"

namespace klein::cli {
namespace {

constexpr int kDefaultSize = 1024;  // of every model of the registry

/// A model that came with the program, by what its own files say.
struct DemoModel {
  std::string name;
  ModelInfo info;
};

nlohmann::json to_json(const DemoModel& demo) {
  return {{"name", demo.name},
          {"aliases", nlohmann::json::array()},
          {"repo", nullptr},
          {"kind", demo.info.variant},
          {"default_size", demo.info.default_size},
          {"default_steps", demo.info.default_steps},
          {"default_guidance", demo.info.default_guidance},
          {"download_bytes", 0},
          {"present", name_of(Presence::complete)},
          {"folder", demo.info.folder.string()}};
}

nlohmann::json to_json(const KnownModel& model) {
  const auto& entry = *model.entry;
  const auto defaults = flux2::defaults_of(entry.variant);
  auto folder = nlohmann::json(nullptr);
  if (model.presence == Presence::complete) folder = model.path.string();
  return {{"name", entry.key},
          {"aliases", std::vector<std::string>(entry.aliases.begin(), entry.aliases.end())},
          {"repo", entry.repo},
          {"kind", name_of(entry.variant)},
          {"default_size", kDefaultSize},
          {"default_steps", defaults.steps},
          {"default_guidance", defaults.guidance},
          {"download_bytes", entry.download_bytes},
          {"present", name_of(model.presence)},
          {"folder", folder}};
}

std::string row(std::string_view name, std::string_view kind, std::string_view download,
                std::string_view present, std::string_view folder) {
  return fmt::format("{:<14} {:<10} {:>9}  {:<9} {}\n", name, kind, download, present, folder);
}

void print_table(const std::vector<DemoModel>& demos, const std::vector<KnownModel>& models,
                 std::ostream& out) {
  out << row("name", "kind", "download", "present", "folder");
  for (const auto& demo : demos)
    out << row(demo.name, demo.info.variant, "-", name_of(Presence::complete),
               io::printable(demo.info.folder.string(), 4000));
  for (const auto& model : models) {
    const bool is_complete = model.presence == Presence::complete;
    const auto folder =
        is_complete ? io::printable(model.path.string(), 4000) : std::string(model.entry->repo);
    out << row(model.entry->short_name, flux2::name_of(model.entry->variant),
               describe_bytes(static_cast<double>(model.entry->download_bytes)),
               name_of(model.presence), folder);
  }
  out << "\nA model that is not here is downloaded when it is first used. Any other FLUX.2 Klein "
         "checkpoint\nis named by its folder, its file, or its repository on the Hugging Face hub: "
         "--model org/repo\n";
}

void run(bool json, Context& context) {
  std::vector<DemoModel> demos;
  for (const auto& name : demo_models_here())
    demos.push_back({name, context.load_model({.model = name}, {}).info});
  const auto models = known_models();
  if (!json) return print_table(demos, models, context.out);
  auto list = nlohmann::json::array();
  for (const auto& demo : demos) list.push_back(to_json(demo));
  for (const auto& model : models) list.push_back(to_json(model));
  context.out << list.dump(-1, ' ', false, nlohmann::json::error_handler_t::replace) << '\n';
}

}  // namespace

void add_models_command(CLI::App& app, Context& context) {
  auto json = std::make_shared<bool>(false);  // kept alive by the callback
  auto* command = app.add_subcommand("models", "List the models that have a name");
  command->add_flag("--json", *json, "Print one JSON array");
  command->callback([json, &context] { run(*json, context); });
}

}  // namespace klein::cli
