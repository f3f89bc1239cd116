// klein bench: how fast a model runs here, and how fast this machine could.

#include <memory>
#include <optional>
#include <ostream>
#include <random>
#include <string>
#include <vector>

#include <CLI/CLI.hpp>
#include <fmt/format.h>

#include "klein/cli/commands.h"
#include "klein/cli/context.h"
#include "klein/cli/flags.h"
#include "klein/cli/lora_flags.h"
#include "klein/cli/lora_report.h"
#include "klein/cli/progress_display.h"
#include "klein/core/error.h"
#include "klein/io/json.h"
#include "klein/io/text.h"

namespace klein::cli {
namespace {

constexpr double kTera = 1e12;
constexpr int kMostReferences = 16;

struct Options {
  EngineOptions engine;
  LoraFlags loras;
  GenerateRequest request;
  std::optional<int> references;  ///< How many pictures an edit sees.
  bool quiet = false;
  bool json = false;
};

/// Seconds and speed of one part of a picture.
struct Part {
  const char* name;
  double seconds;
  double flops;  ///< 0 where nothing is computed.

  double flops_per_sec() const { return seconds > 0.0 ? flops / seconds : 0.0; }
};

std::vector<Part> parts_of(const BenchReport& report) {
  const auto& seconds = report.picture.seconds;
  return {{"load", seconds.at(Stage::load), 0.0},
          {"text", seconds.at(Stage::encode_text), report.text_flops},
          {"denoise", seconds.at(Stage::denoise), report.step_flops * report.picture.steps},
          {"step", report.best_step_seconds, report.step_flops},  // the fastest one
          {"decode", seconds.at(Stage::decode), report.decode_flops}};
}

double share_of_gemm(const BenchReport& report) {
  return report.step_flops / report.best_step_seconds / report.gemm_flops_per_sec;
}

const char* name_of_dtype(Precision precision) {
  return precision == Precision::float32 ? "float32" : "bfloat16";
}

void print_table(const BenchReport& report, const ModelInfo& info, const Options& options,
                 std::ostream& out) {
  const auto& picture = report.picture;
  out << fmt::format("{}: {} x {}, {} steps, guidance {}, {} on {}\n\n",
                     io::printable(options.engine.model, 4000), picture.width, picture.height,
                     picture.steps, picture.guidance, name_of_dtype(options.engine.precision),
                     info.device);
  out << fmt::format("{:<10} {:>10} {:>10}\n", "part", "seconds", "TFLOP/s");
  for (const auto& part : parts_of(report)) {
    const auto speed =
        part.flops > 0.0 ? fmt::format("{:.3f}", part.flops_per_sec() / kTera) : std::string("-");
    out << fmt::format("{:<10} {:>10.3f} {:>10}\n", part.name, part.seconds, speed);
  }
  out << fmt::format("{:<10} {:>10} {:>10.3f}\n\n", "GEMM", "-", report.gemm_flops_per_sec / kTera);
  out << fmt::format("a step reaches {:.0f} % of the speed of one matrix product\n",
                     100.0 * share_of_gemm(report));
  out << fmt::format("peak memory {:.2f} GB\n",
                     static_cast<double>(picture.peak_memory_bytes) / 1e9);
}

/// What reference pictures cost beside a step without them.
void print_edit(const BenchReport& report, std::ostream& out) {
  const auto& edit = *report.edit;
  const double alone = report.best_step_seconds;
  const auto line = [&](const char* name, double seconds) {
    out << fmt::format("{:<32} {:>10.3f} {:>9.2f}x\n", name, seconds, seconds / alone);
  };
  out << fmt::format("\n{:<32} {:>10} {:>10}\n",
                     fmt::format("step with {} {}", edit.references,
                                 edit.references == 1 ? "reference" : "references"),
                     "seconds", "of none");
  line("read in every step", edit.step_seconds);
  line("kept, first step", edit.first_step_seconds);
  if (edit.kept_step_seconds > 0.0) line("kept, later steps", edit.kept_step_seconds);
}

/// Pictures of the size that is measured, of noise: what they show takes no time.
std::vector<io::Picture> noise_pictures(int count, int width, int height) {
  std::minstd_rand random(7);
  std::vector<io::Picture> pictures(static_cast<std::size_t>(count));
  for (auto& picture : pictures) {
    picture.width = width;
    picture.height = height;
    picture.pixels.resize(static_cast<std::size_t>(width) * static_cast<std::size_t>(height) * 3);
    for (auto& value : picture.pixels) value = static_cast<std::uint8_t>(random() >> 8);
  }
  return pictures;
}

nlohmann::json to_json(const BenchReport& report, const ModelInfo& info, const Options& options) {
  const auto& picture = report.picture;
  auto seconds = nlohmann::json::object();
  double total = 0.0;
  for (const auto& [stage, secs] : picture.seconds) {
    seconds[name_of(stage)] = secs;
    total += secs;
  }
  seconds["total"] = total;
  nlohmann::json speeds;
  for (const auto& part : parts_of(report))
    if (part.flops > 0.0) speeds[part.name] = part.flops_per_sec() / kTera;
  speeds["gemm"] = report.gemm_flops_per_sec / kTera;
  nlohmann::json edit;  // null where none was measured
  if (report.edit)
    edit = {{"references", report.edit->references},
            {"step_seconds", report.edit->step_seconds},
            {"kept_first_step_seconds", report.edit->first_step_seconds},
            {"kept_step_seconds", report.edit->kept_step_seconds}};
  return {{"edit", edit},
          {"model", options.engine.model},
          {"device", info.device},
          {"dtype", name_of_dtype(options.engine.precision)},
          {"width", picture.width},
          {"height", picture.height},
          {"steps", picture.steps},
          {"guidance", picture.guidance},
          {"seconds", seconds},
          {"step_seconds", picture.step_seconds},
          {"best_step_seconds", report.best_step_seconds},
          {"tflops_per_second", speeds},
          {"step_share_of_gemm", share_of_gemm(report)},
          {"peak_memory_bytes", picture.peak_memory_bytes},
          {"loras", lora_report(picture.loras)},
          {"warnings", picture.warnings}};
}

void run(Options& options, Context& context) {
  if (options.references && (*options.references < 1 || *options.references > kMostReferences))
    throw Error(ErrorKind::usage, fmt::format("expected --edit to be 1 to {}, got {}",
                                              kMostReferences, *options.references));
  std::vector<std::string> warnings;
  options.loras.settle(options.engine, options.request, warnings);
  options.request.validate();
  ProgressDisplay display(context.err, progress_form(options.quiet, context.terminal_columns()),
                          context.terminal_columns);
  const auto show = [&](const Progress& progress) {
    display.update(progress);
    return !context.stop_requested();
  };
  const auto model = context.load_model(options.engine, show);
  const int side = model.info.default_size;
  if (options.references)
    options.request.references =
        noise_pictures(*options.references, options.request.width.value_or(side),
                       options.request.height.value_or(side));
  const auto report = model.bench(options.request, show);
  display.finish();
  warnings.insert(warnings.end(), report.picture.warnings.begin(), report.picture.warnings.end());
  for (const auto& warning : warnings)
    context.err << "warning: " << io::printable(warning, 4000) << '\n';
  if (options.json)
    context.out << to_json(report, model.info, options)
                       .dump(-1, ' ', false, nlohmann::json::error_handler_t::replace)
                << '\n';
  else
    print_table(report, model.info, options, context.out);
  if (!options.json && report.edit) print_edit(report, context.out);
}

}  // namespace

void add_bench_command(CLI::App& app, Context& context) {
  auto o = std::make_shared<Options>();  // kept alive by the callback
  o->request.prompt = "a red apple on a wooden table";
  auto* command = app.add_subcommand("bench", "Measure how fast a model runs on this machine");
  add_value(*command, "--prompt", value::kText, "What to paint meanwhile",
            [o = o.get()](const std::string& text) { o->request.prompt = text; });
  add_engine_flags(*command, o->engine);
  add_lora_flags(*command, o->loras);
  add_merge_flag(*command, o->loras);
  add_size_flags(*command, o->request);
  add_int(*command, "--edit", o->references,
          "Also with so many reference pictures of the same size, kept and not");
  command->add_flag("--quiet", o->quiet, "No progress");
  command->add_flag("--json", o->json, "Print one JSON object instead of a table");
  command->callback([o, &context] { run(*o, context); });
}

}  // namespace klein::cli
