// klein lora: the LoRAs of the library.

#include <cstddef>
#include <memory>
#include <ostream>
#include <string>
#include <vector>

#include <CLI/CLI.hpp>
#include <fmt/format.h>
#include <fmt/ranges.h>

#include "klein/cli/commands.h"
#include "klein/cli/context.h"
#include "klein/cli/flags.h"
#include "klein/cli/progress_display.h"
#include "klein/engine/find_lora.h"
#include "klein/engine/list_loras.h"
#include "klein/io/json.h"
#include "klein/io/text.h"

namespace klein::cli {
namespace {

struct Options {
  std::vector<std::string> folders;
  bool json = false;
};

nlohmann::json to_json(const ListedLora& lora) {
  const auto or_null = [](const std::string& text) {
    return text.empty() ? nlohmann::json(nullptr) : nlohmann::json(text);
  };
  return {{"name", lora.name},          {"file", lora.file.string()},  {"bytes", lora.bytes},
          {"kind", or_null(lora.kind)}, {"ranks", lora.ranks},         {"layers", lora.layers},
          {"models", lora.models},      {"fault", or_null(lora.fault)}};
}

std::string row(std::string_view name, std::string_view kind, std::string_view rank,
                std::string_view layers, std::string_view model, std::string_view size,
                std::string_view file) {
  return fmt::format("{:<24} {:<5} {:>8} {:>7}  {:<7} {:>9}  {}\n", name, kind, rank, layers, model,
                     size, file);
}

std::string row(const ListedLora& lora) {
  const auto name = io::printable(lora.name), file = io::printable(lora.file.string(), 4000);
  const auto bytes = describe_bytes(static_cast<double>(lora.bytes));
  if (!lora.fault.empty())
    return row(name, "-", "-", "-", "-", bytes, file) +
           fmt::format("  cannot be used: {}\n", io::printable(lora.fault, 4000));
  const auto ranks = lora.ranks.size() > 1
                         ? fmt::format("{}-{}", *lora.ranks.begin(), *lora.ranks.rbegin())
                         : fmt::format("{}", fmt::join(lora.ranks, ""));
  return row(name, lora.kind, ranks.empty() ? "-" : ranks, std::to_string(lora.layers),
             fmt::format("{}", fmt::join(lora.models, ", ")), bytes, file);
}

void run(const Options& options, Context& context) {
  const auto loras = list_loras(options.folders.empty() ? lora_folders() : options.folders);
  if (options.json) {
    auto list = nlohmann::json::array();
    for (const auto& lora : loras) list.push_back(to_json(lora));
    context.out << list.dump(-1, ' ', false, nlohmann::json::error_handler_t::replace) << '\n';
    return;
  }
  if (!loras.empty()) context.out << row("name", "kind", "rank", "layers", "for", "size", "file");
  for (const auto& lora : loras) context.out << row(lora);
  context.out << fmt::format("{}{} {}\n", loras.empty() ? "" : "\n", loras.size(),
                             loras.size() == 1 ? "LoRA" : "LoRAs");
}

}  // namespace

void add_lora_command(CLI::App& app, Context& context) {
  auto o = std::make_shared<Options>();  // kept alive by the callback
  auto* command = app.add_subcommand("lora", "List the LoRAs of the library");
  add_choice(*command, "ACTION", {"list"}, "What to do", [](std::size_t) {})->required();
  command
      ->add_option_function<std::vector<std::string>>(
          "--paths",
          [o = o.get()](const std::vector<std::string>& words) {
            o->folders.clear();
            for (const auto& word : words) o->folders.push_back(unguarded(word));
          },
          "Folders to look through instead of those of LORA_LIBRARY_PATH")
      ->type_name(value::kFile);
  command->add_flag("--json", o->json, "Print one JSON array");
  command->footer(
      "A LoRA of the library is used by its name: klein generate \"a fox\" --lora NAME\n"
      "\n"
      "Examples:\n"
      "  LORA_LIBRARY_PATH=~/loras klein lora list\n"
      "  klein lora list --paths ~/loras /mnt/styles --json");
  command->callback([o, &context] { run(*o, context); });
}

}  // namespace klein::cli
