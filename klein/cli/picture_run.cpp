// One run of klein generate, edit or inpaint: a prompt becomes a picture, one for each seed.

#include "klein/cli/picture_run.h"

#include <algorithm>
#include <map>
#include <optional>
#include <ostream>
#include <string>
#include <vector>

#include <fmt/format.h>
#include <fmt/ranges.h>

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
          {"batch", options.batch.value_or(1)},
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
    const auto batch = static_cast<std::size_t>(options_.batch.value_or(1));
    for (std::size_t i = 0; i < options_.seeds.size(); i += batch) {
      if (i > 0) prompt = options_.read_prompt(context_.in);
      paint(model, files, prompt, i, std::min(i + batch, options_.seeds.size()));
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

  std::string headline(std::size_t begin, std::size_t end) const {
    const auto& all = options_.seeds;
    if (all.size() == 1) return fmt::format("seed {}", all.front());
    if (end - begin == 1)
      return fmt::format("picture {} of {}, seed {}", end, all.size(), all[begin]);
    const std::vector seeds(all.begin() + static_cast<std::ptrdiff_t>(begin),
                            all.begin() + static_cast<std::ptrdiff_t>(end));
    return fmt::format("pictures {} to {} of {}, seeds {}", begin + 1, end, all.size(),
                       fmt::join(seeds, ", "));
  }

  /// The pictures of seeds [begin, end), at once.
  void paint(const Model& model, OutputFiles& files, const std::string& prompt, std::size_t begin,
             std::size_t end) {
    display_.start(headline(begin, end));
    const Stopwatch watch;
    auto& request = options_.request;
    request.prompt = prompt;
    request.seeds.assign(options_.seeds.begin() + static_cast<std::ptrdiff_t>(begin),
                         options_.seeds.begin() + static_cast<std::ptrdiff_t>(end));
    request.next = end == options_.seeds.size() ? NextRequest::none
                   : options_.prompt_file       ? NextRequest::any
                                                : NextRequest::same_prompts;
    files.fill(request, request.seeds);
    if (stepwise_) {
      stepwise_->start(request.seeds);
      request.preview = [this](const Preview& preview) { stepwise_->add(preview); };
    }
    const auto result = model.generate(request, [&](const Progress& progress) {
      if (!progress.note.empty() && begin == 0) note(progress.note);
      display_.update(progress);
      return !context_.stop_requested();
    });
    if (context_.stop_requested()) throw Error(ErrorKind::cancelled, "stopped on request");
    summary_.add(result);

    const Stopwatch save_watch;
    if (stepwise_) stepwise_->finish();
    // Of one seed there are several where a file of latents holds them.
    const auto count = result.images.size();
    const bool has_own_seed = request.seeds.size() == count;
    std::vector<OutputFiles::Saved> saved;
    for (std::size_t k = 0; k < count; ++k)
      saved.push_back(has_own_seed ? files.save(result.images[k], request.seeds[k], 0, 1)
                                   : files.save(result.images[k], request.seeds.front(), k, count));
    summary_.seconds[Stage::save] += save_watch.seconds();
    display_.finish();

    for (const auto& warning : result.warnings) warn(warning);
    const auto secs = describe_seconds(watch.seconds());
    for (std::size_t k = 0; k < count; ++k) {
      const auto& [wanted, path, is_renamed] = saved[k];
      summary_.files.push_back(path.string());
      if (is_renamed)
        warn(
            fmt::format("{} exists already, so the picture is {}", wanted.string(), path.string()));
      display_.say(fmt::format(
          "{}: {} x {}, {} {}, seed {}, {}", io::printable(path.string(), 4000), result.width,
          result.height, result.steps, result.steps == 1 ? "step" : "steps",
          request.seeds[has_own_seed ? k : 0],
          request.seeds.size() == 1 ? secs
                                    : fmt::format("{} for all {}", secs, request.seeds.size())));
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
