// One run of klein generate, edit or inpaint: a prompt becomes a picture, one for each seed.

#include "klein/cli/picture_run.h"

#include <algorithm>
#include <map>
#include <optional>
#include <ostream>
#include <string>
#include <vector>

#include <fmt/format.h>

#include "klein/cli/context.h"
#include "klein/cli/generate_options.h"
#include "klein/cli/lora_report.h"
#include "klein/cli/output_files.h"
#include "klein/cli/progress_display.h"
#include "klein/cli/stepwise_files.h"
#include "klein/core/error.h"
#include "klein/core/stopwatch.h"
#include "klein/io/json.h"
#include "klein/io/text.h"

namespace klein::cli {
namespace {

/// What all pictures of one run have in common, for the report.
struct Summary {
  std::vector<std::string> files;
  std::map<Stage, double> seconds;
  std::vector<double> step_seconds;
  std::uint64_t peak_memory_bytes = 0;
  MemoryReport memory;  ///< Of the last picture.
  std::vector<UsedLora> loras;
  std::vector<std::string> warnings;
  int width = 0, height = 0, steps = 0;
  double guidance = 0.0;

  void add(const GenerateResult& result) {
    for (const auto& [stage, secs] : result.seconds) seconds[stage] += secs;
    step_seconds.insert(step_seconds.end(), result.step_seconds.begin(), result.step_seconds.end());
    peak_memory_bytes = std::max(peak_memory_bytes, result.peak_memory_bytes);
    memory = result.memory;
    loras = result.loras;
    width = result.width;
    height = result.height;
    steps = result.steps;
    guidance = result.guidance;
  }
};

nlohmann::json to_json(const Summary& summary, const GenerateOptions& options, double total_secs) {
  auto seconds = nlohmann::json::object();
  for (const auto& [stage, secs] : summary.seconds) seconds[name_of(stage)] = secs;
  seconds["total"] = total_secs;
  return {{"files", summary.files},
          {"seeds", options.seeds},
          {"seconds", seconds},
          {"step_seconds", summary.step_seconds},
          {"peak_memory_bytes", summary.peak_memory_bytes},
          {"memory",
           {{"plan", summary.memory.plan},
            {"expected_peak_bytes", summary.memory.expected_peak_bytes},
            {"budget_bytes", summary.memory.budget_bytes},
            {"streamed_bytes", summary.memory.streamed_bytes}}},
          {"width", summary.width},
          {"height", summary.height},
          {"steps", summary.steps},
          {"guidance", summary.guidance},
          {"model", options.engine.model},
          {"loras", lora_report(summary.loras)},
          {"warnings", summary.warnings}};
}

/// From the loaded model to the last file.
class Run {
 public:
  Run(GenerateOptions& options, Context& context)
      : options_(options),
        context_(context),
        display_(context.err, progress_form(options.quiet, context.terminal_columns()),
                 context.terminal_columns) {}

  Summary operator()() {
    for (const auto& warning : options_.warnings) warn(warning);
    auto prompt = options_.read_prompt(context_.in);
    const auto model = load_model();
    warn_of_idle_negative_prompt(model.info);
    OutputFiles files(options_);
    if (options_.stepwise_folder) stepwise_.emplace(*options_.stepwise_folder, options_.overwrite);
    for (std::size_t i = 0; i < options_.seeds.size(); ++i) {
      if (i > 0) prompt = options_.read_prompt(context_.in);
      paint(model, files, prompt, i);
    }
    return std::move(summary_);
  }

 private:
  void warn(const std::string& text) {
    if (std::ranges::find(summary_.warnings, text) != summary_.warnings.end()) return;
    summary_.warnings.push_back(text);
    context_.err << "warning: " << io::printable(text, 4000) << '\n' << std::flush;
  }

  /// How the memory is used, where that is not as usual.
  void note(std::string_view plan) { display_.say(fmt::format("memory: {}", plan)); }

  Model load_model() {
    const Stopwatch watch;
    bool is_downloaded = false;
    auto model = context_.load_model(options_.engine, [&](const Progress& progress) {
      is_downloaded = is_downloaded || progress.total > 0;
      display_.update(progress);
      return !context_.stop_requested();
    });
    if (is_downloaded) summary_.seconds[Stage::download] = watch.seconds();
    return model;
  }

  void warn_of_idle_negative_prompt(const ModelInfo& info) {
    const auto& negative = options_.request.negative_prompt;
    if (!info.is_distilled && negative && !negative->empty() &&
        options_.request.guidance.value_or(info.default_guidance) <= 1.0)
      warn("the negative prompt has no effect without a guidance above 1");
  }

  void paint(const Model& model, OutputFiles& files, const std::string& prompt, std::size_t i) {
    const auto seed = options_.seeds[i];
    display_.start(options_.seeds.size() == 1 ? fmt::format("seed {}", seed)
                                              : fmt::format("picture {} of {}, seed {}", i + 1,
                                                            options_.seeds.size(), seed));
    const Stopwatch watch;
    auto& request = options_.request;
    request.prompt = prompt;
    request.seed = seed;
    request.next = i + 1 == options_.seeds.size() ? NextRequest::none
                   : options_.prompt_file         ? NextRequest::any
                                                  : NextRequest::same_prompts;
    files.fill(request, seed);
    if (stepwise_) {
      stepwise_->start(seed);
      request.preview = [this](const Preview& preview) { stepwise_->add(preview); };
    }
    const auto result = model.generate(request, [&](const Progress& progress) {
      if (!progress.note.empty() && i == 0) note(progress.note);
      display_.update(progress);
      return !context_.stop_requested();
    });
    if (context_.stop_requested()) throw Error(ErrorKind::cancelled, "stopped on request");
    summary_.add(result);

    const Stopwatch save_watch;
    if (stepwise_) stepwise_->finish();
    std::vector<OutputFiles::Saved> saved;
    for (std::size_t k = 0; k < result.images.size(); ++k)
      saved.push_back(files.save(result.images[k], seed, k, result.images.size()));
    summary_.seconds[Stage::save] += save_watch.seconds();
    display_.finish();

    for (const auto& warning : result.warnings) warn(warning);
    for (const auto& [wanted, path, is_renamed] : saved) {
      summary_.files.push_back(path.string());
      if (is_renamed)
        warn(
            fmt::format("{} exists already, so the picture is {}", wanted.string(), path.string()));
      display_.say(fmt::format("{}: {} x {}, {} {}, seed {}, {}",
                               io::printable(path.string(), 4000), result.width, result.height,
                               result.steps, result.steps == 1 ? "step" : "steps", seed,
                               describe_seconds(watch.seconds())));
    }
  }

  GenerateOptions& options_;
  Context& context_;
  ProgressDisplay display_;
  std::optional<StepwiseFiles> stepwise_;
  Summary summary_;
};

}  // namespace

void run_pictures(GenerateOptions& options, Context& context) {
  const Stopwatch watch;
  options.settle();
  const auto summary = Run(options, context)();
  if (options.json)
    context.out << to_json(summary, options, watch.seconds())
                       .dump(-1, ' ', false, nlohmann::json::error_handler_t::replace)
                << '\n';
}

}  // namespace klein::cli
