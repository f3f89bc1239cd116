// klein info: what a model, a part of one or an adapter is, without reading its weights.

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
#include "klein/engine/describe_model.h"
#include "klein/io/json.h"
#include "klein/io/text.h"

namespace klein::cli {
namespace {

struct Options {
  EngineOptions engine;
  bool json = false;
};

std::string bytes_text(std::uint64_t bytes) {
  return describe_bytes(static_cast<double>(bytes));
}

/// What a file says may be hostile and ends up on a terminal.
std::string path_text(const std::filesystem::path& path) {
  return io::printable(path.string(), 4000);
}

nlohmann::json to_json(const PartDescription& part) {
  auto formats = nlohmann::json::array(), sizes = nlohmann::json::object();
  for (const auto& format : part.formats)
    formats.push_back(
        {{"name", format.name}, {"tensors", format.tensors}, {"bytes", format.bytes}});
  for (const auto& [name, size] : part.sizes) sizes[name] = size;
  nlohmann::json base = nullptr;
  if (!part.base.empty()) base = part.base.string();
  return {{"name", part.name},
          {"path", part.path.string()},
          {"base", base},
          {"names", part.convention},
          {"saved_by", part.saved_by},
          {"formats", formats},
          {"parameters", part.parameters},
          {"bytes", part.bytes},
          {"sizes", sizes}};
}

nlohmann::json to_json(const DownloadDescription& download) {
  auto files = nlohmann::json::array();
  for (const auto& file : download.files)
    files.push_back({{"name", file.name}, {"bytes", file.bytes}, {"is_here", file.is_here}});
  return {{"repo", download.repo},
          {"bytes", download.bytes},
          {"missing_bytes", download.missing_bytes},
          {"files", files}};
}

/// Absent facts are null.
nlohmann::json to_json(const ModelDescription& model) {
  const auto or_null = [](const std::string& text) {
    return text.empty() ? nlohmann::json(nullptr) : nlohmann::json(text);
  };
  const auto number_or_null = [](const std::optional<std::uint64_t>& number) {
    return number ? nlohmann::json(*number) : nlohmann::json(nullptr);
  };
  auto parts = nlohmann::json::array();
  for (const auto& part : model.parts) parts.push_back(to_json(part));
  nlohmann::json json = {{"kind", model.kind},
                         {"path", or_null(model.path.string())},
                         {"repo", or_null(model.repo)},
                         {"complete", model.is_complete},
                         {"variant", or_null(model.variant)},
                         {"variant_source", or_null(model.variant_source)},
                         {"parts", parts},
                         {"tokenizer", or_null(model.tokenizer.string())},
                         {"missing_parts", model.missing_parts},
                         {"missing_from", or_null(model.missing_from)},
                         {"peak_bytes_1024", number_or_null(model.peak_bytes)},
                         {"least_peak_bytes_1024", number_or_null(model.least_peak_bytes)},
                         {"warnings", model.warnings}};
  json["default_steps"] = nullptr;
  json["default_guidance"] = nullptr;
  if (!model.variant.empty()) {
    json["default_steps"] = model.default_steps;
    json["default_guidance"] = model.default_guidance;
  }
  json["download"] = model.download ? to_json(*model.download) : nlohmann::json(nullptr);
  return json;
}

std::string line(std::string_view label, std::string_view text) {
  return fmt::format("{:<14} {}\n", label, text);
}

void print(const PartDescription& part, std::ostream& out) {
  auto text = fmt::format("{:.1f} M parameters, {}", static_cast<double>(part.parameters) / 1e6,
                          bytes_text(part.bytes));
  if (!part.convention.empty()) text += fmt::format(", names of {}", part.convention);
  if (!part.saved_by.empty()) text += ", metadata of " + io::printable(part.saved_by);
  out << '\n' << line(part.name, text);
  for (const auto& format : part.formats)
    out << line("",
                fmt::format("{}: {} {}, {}", format.name, format.tensors,
                            format.tensors == 1 ? "tensor" : "tensors", bytes_text(format.bytes)));
  std::vector<std::string> sizes;
  for (const auto& [name, size] : part.sizes) sizes.push_back(fmt::format("{} {}", name, size));
  if (!sizes.empty()) out << line("", fmt::format("{}", fmt::join(sizes, ", ")));
  if (!part.base.empty()) out << line("", "a low-rank difference to " + path_text(part.base));
  out << line("", path_text(part.path));
}

void print(const DownloadDescription& download, std::ostream& out) {
  out << line("download",
              fmt::format("{} of {} are not here yet; using the model fetches them",
                          bytes_text(download.missing_bytes), bytes_text(download.bytes)));
  for (const auto& file : download.files)
    out << line("", fmt::format("{:>9}  {}{}", bytes_text(file.bytes),
                                io::printable(file.name, 4000), file.is_here ? " (here)" : ""));
}

void print(const ModelDescription& model, std::ostream& out) {
  out << line("kind", model.kind);
  if (!model.path.empty()) out << line("path", path_text(model.path));
  if (!model.repo.empty()) out << line("repository", io::printable(model.repo, 200));
  if (!model.variant.empty())
    out << line("variant",
                fmt::format("{}, says {}: {} steps, guidance {}", model.variant,
                            model.variant_source, model.default_steps, model.default_guidance));
  if (model.download) print(*model.download, out);
  for (const auto& part : model.parts) print(part, out);
  if (!model.parts.empty()) out << '\n';
  if (!model.tokenizer.empty()) out << line("tokenizer", path_text(model.tokenizer));
  if (!model.missing_parts.empty())
    out << line("missing",
                fmt::format("{}{}", fmt::join(model.missing_parts, ", "),
                            model.missing_from.empty()
                                ? std::string()
                                : ", fetched from " + model.missing_from + " when used"));
  if (model.peak_bytes && model.least_peak_bytes)
    out << line("memory",
                fmt::format("{} for a picture of 1024 x 1024, at the least {}",
                            bytes_text(*model.peak_bytes), bytes_text(*model.least_peak_bytes)));
}

void run(const Options& options, Context& context) {
  const auto model =
      describe_model(options.engine, [&](const Progress&) { return !context.stop_requested(); });
  for (const auto& warning : model.warnings)
    context.err << "warning: " << io::printable(warning, 4000) << '\n';
  if (options.json)
    context.out << to_json(model).dump(-1, ' ', false, nlohmann::json::error_handler_t::replace)
                << '\n';
  else
    print(model, context.out);
}

}  // namespace

void add_info_command(CLI::App& app, Context& context) {
  auto o = std::make_shared<Options>();  // kept alive by the callback
  auto* command = app.add_subcommand("info", "Tell what a model, a part of one or an adapter is");
  add_value(*command, "MODEL", value::kModel,
            "A name of `klein models`, a folder, a file, org/repo",
            [o = o.get()](const std::string& text) { o->engine.model = text; })
      ->required();
  add_source_flags(*command, o->engine);
  add_quantize_flags(*command, o->engine);
  command->add_flag("--json", o->json, "Print one JSON object");
  command->footer(
      "No weights are read and nothing is downloaded.\n"
      "Examples:\n"
      "  klein info klein-4b\n"
      "  klein info flux-2-klein-4b-Q4_K_M.gguf --json\n"
      "  klein info FOLDER -q 4");
  command->callback([o, &context] { run(*o, context); });
}

}  // namespace klein::cli
