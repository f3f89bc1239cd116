// klein bench: how fast a model runs here, how fast this machine could, and how fast diffusers
// does.

#include <memory>
#include <optional>
#include <ostream>
#include <random>
#include <string>
#include <vector>

#include <CLI/CLI.hpp>
#include <fmt/format.h>

#include "klein/cli/bench_report.h"
#include "klein/cli/commands.h"
#include "klein/cli/compare_diffusers.h"
#include "klein/cli/context.h"
#include "klein/cli/flags.h"
#include "klein/cli/lora_flags.h"
#include "klein/cli/progress_display.h"
#include "klein/core/error.h"
#include "klein/io/text.h"

namespace klein::cli {
namespace {

constexpr int kMostReferences = 16;

struct Options {
  EngineOptions engine;
  LoraFlags loras;
  BenchRequest bench;
  std::optional<int> runs;
  std::optional<int> references;  ///< How many pictures an edit sees.
  bool compares = false;          ///< With diffusers.
  std::optional<std::string> python, compile;
  bool quiet = false;
  bool json = false;
};

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

/// diffusers draws from the model's folder as it is, a picture at a time.
void expect_comparable(const Options& options) {
  const auto refuse = [](const char* what) {
    throw Error(ErrorKind::usage,
                fmt::format("expected --compare-diffusers or {}, got both", what));
  };
  const auto& e = options.engine;
  if (e.transformer || e.text_encoder || e.vae || e.tokenizer) refuse("parts of other models");
  if (e.quantize_transformer || e.quantize_text_encoder || e.quantize_vae) refuse("packed weights");
  if (!e.loras.empty() || !options.bench.picture.loras.empty()) refuse("LoRAs");
  if (options.references) refuse("--edit");
}

void settle(Options& options, std::vector<std::string>& warnings) {
  if (options.references && (*options.references < 1 || *options.references > kMostReferences))
    throw Error(ErrorKind::usage, fmt::format("expected --edit to be 1 to {}, got {}",
                                              kMostReferences, *options.references));
  options.loras.settle(options.engine, options.bench.picture, warnings);
  if (options.runs) options.bench.runs = *options.runs;
  options.bench.validate();
  if (options.compares)
    expect_comparable(options);
  else if (options.python || options.compile)
    throw Error(ErrorKind::usage, fmt::format("expected --compare-diffusers beside {}, got none",
                                              options.python ? "--python" : "--compile"));
}

void run(Options& options, Context& context) {
  std::vector<std::string> warnings;
  settle(options, warnings);
  ProgressDisplay display(context.err, progress_form(options.quiet, context.terminal_columns()),
                          context.terminal_columns);
  const auto show = [&](const Progress& progress) {
    display.update(progress);
    return !context.stop_requested();
  };
  const auto model = context.load_model(options.engine, show);
  auto& request = options.bench;
  const int side = model.info.default_size;
  if (options.references)
    request.picture.references =
        noise_pictures(*options.references, request.picture.width.value_or(side),
                       request.picture.height.value_or(side));
  std::optional<CompareDiffusers> compare;
  if (options.compares) {
    compare.emplace(CompareDiffusers::Options{.python = options.python.value_or("python3"),
                                              .compile = options.compile,
                                              .runs = request.runs,
                                              .prompt = request.picture.prompt,
                                              .precision = options.engine.precision},
                    context.stop_requested, [&](const std::string& text) { display.say(text); });
    compare->join(request, model.info);
  }
  const auto report = model.bench(request, show);
  display.finish();
  warnings.insert(warnings.end(), report.first.warnings.begin(), report.first.warnings.end());
  for (const auto& warning : warnings)
    context.err << "warning: " << io::printable(warning, 4000) << '\n';

  std::optional<Comparison> comparison;
  if (compare) comparison = compare->result();
  const BenchSubject subject{.model = options.engine.model,
                             .device = model.info.device,
                             .precision = options.engine.precision,
                             .math = options.engine.math,
                             .runs = request.runs};
  if (options.json)
    context.out << bench_json(report, comparison, subject) << '\n';
  else
    print_bench(report, comparison, subject, context.out);
}

void add_comparison_flags(CLI::App& command, Options& o) {
  command.add_flag("--compare-diffusers", o.compares,
                   "Also draw the same pictures with diffusers, in turns");
  add_value(command, "--python", value::kFile, "Python that has diffusers [python3]",
            [&o](const std::string& text) { o.python = text; });
  add_choice(command, "--compile", {"default", "max-autotune"},
             "Also with torch.compile in this mode, which takes minutes",
             [&o](std::size_t i) { o.compile = i == 0 ? "default" : "max-autotune"; });
}

}  // namespace

void add_bench_command(CLI::App& app, Context& context) {
  auto o = std::make_shared<Options>();  // kept alive by the callback
  auto& picture = o->bench.picture;
  picture.prompt = "a red apple on a wooden table";
  auto* command = app.add_subcommand("bench", "Measure how fast a model runs on this machine");
  add_value(*command, "--prompt", value::kText, "What to paint meanwhile",
            [&picture](const std::string& text) { picture.prompt = text; });
  add_engine_flags(*command, o->engine);
  add_lora_flags(*command, o->loras);
  add_merge_flag(*command, o->loras);
  add_size_flags(*command, picture);
  add_int(*command, "--runs", o->runs, "Pictures to time behind a first one [3]");
  command
      ->add_option_function<std::vector<std::string>>(
          "--batch",
          [o = o.get()](const std::vector<std::string>& words) {
            for (const auto& word : words) o->bench.batches.push_back(parse_int(word, "--batch"));
          },
          "Also so many pictures at once, such as 1 4 8")
      ->type_name(value::kNumber);
  add_int(*command, "--edit", o->references,
          "Also with so many reference pictures of the same size, kept and not");
  command->add_flag("--floor", o->bench.measure_floor,
                    "Also what the products and attentions of a step take alone");
  add_comparison_flags(*command, *o);
  command->add_flag("--quiet", o->quiet, "No progress");
  command->add_flag("--json", o->json, "Print one JSON object instead of a table");
  command->callback([o, &context] { run(*o, context); });
}

}  // namespace klein::cli
