#pragma once

#include <algorithm>
#include <filesystem>
#include <functional>
#include <optional>
#include <random>
#include <sstream>
#include <string>
#include <vector>

#include "klein/cli/context.h"
#include "klein/cli/program.h"
#include "klein/core/error.h"

namespace klein::test {

/// A folder that lives as long as its object, and is the current one meanwhile.
class WorkingFolder {
 public:
  WorkingFolder()
      : before_(std::filesystem::current_path()),
        path_(std::filesystem::temp_directory_path() /
              ("klein-cli-" + std::to_string(std::random_device{}()))) {
    std::filesystem::create_directories(path_);
    std::filesystem::current_path(path_);
  }
  WorkingFolder(const WorkingFolder&) = delete;
  WorkingFolder& operator=(const WorkingFolder&) = delete;
  ~WorkingFolder() {
    std::filesystem::current_path(before_);
    std::filesystem::remove_all(path_);
  }

  std::vector<std::string> files() const {
    std::vector<std::string> names;
    for (const auto& entry : std::filesystem::recursive_directory_iterator(path_))
      if (entry.is_regular_file())
        names.push_back(std::filesystem::relative(entry.path(), path_).string());
    std::sort(names.begin(), names.end());
    return names;
  }

 private:
  std::filesystem::path before_, path_;
};

/// The program with a model that paints at once and remembers what it was asked for.
struct FakeProgram {
  std::istringstream in;
  std::ostringstream out, err;
  int columns = 0;
  int pictures = 1;  ///< A seed.
  std::function<bool()> stop_requested = [] { return false; };
  ModelInfo info{.folder = "/models/demo",
                 .variant = "distilled",
                 .is_distilled = true,
                 .default_steps = 4,
                 .default_guidance = 1.0,
                 .default_size = 256,
                 .device = "cpu"};
  std::vector<std::string> warnings;
  MemoryReport memory;

  std::vector<EngineOptions> loaded;
  std::vector<GenerateRequest> requests;
  std::vector<SaveRequest> saved;

  GenerateResult paint(const GenerateRequest& request, const ProgressCallback& progress) {
    requests.push_back(request);
    const int steps = request.steps.value_or(info.default_steps);
    const auto report = [&](Stage stage, int total) {
      for (int done = 0; done <= total; ++done)
        if (!progress({.stage = stage, .done = done, .total = total}))
          throw Error(ErrorKind::cancelled, "stopped on request");
    };
    if (memory.is_notable) progress({.stage = Stage::load, .note = memory.plan});
    report(Stage::load, 4);
    report(Stage::encode_text, 1);
    report(Stage::denoise, steps);
    const io::Image pixel{.width = 2, .height = 1, .rgb = {1, 2, 3, 4, 5, 6}};
    const std::vector images(
        static_cast<std::size_t>(pictures) * std::max<std::size_t>(1, request.seeds.size()), pixel);
    for (int step = 1; step <= steps && request.preview; ++step)
      request.preview({.step = step, .steps = steps, .images = images});
    report(Stage::decode, 1);
    GenerateResult result;
    result.width = request.width.value_or(info.default_size);
    result.height = request.height.value_or(info.default_size);
    result.steps = steps;
    result.guidance = request.guidance.value_or(info.default_guidance);
    result.seconds = {{Stage::load, 0.5},
                      {Stage::encode_text, 0.25},
                      {Stage::denoise, 1.0},
                      {Stage::decode, 0.125}};
    result.step_seconds.assign(static_cast<std::size_t>(steps), 0.25);
    result.peak_memory_bytes = 1000;
    result.memory = memory;
    result.warnings = warnings;
    result.images = images;
    return result;
  }

  BenchReport bench(const BenchRequest& request, const ProgressCallback& progress) {
    const auto first = paint(request.picture, progress);
    for (int run = 0; run <= request.runs && request.after_run; ++run)
      request.after_run(run, first);
    BenchReport report{.first = first,
                       .text = {.median = 0.25, .best = 0.125},
                       .step = {.median = 0.5, .best = 0.25},
                       .denoise = {.median = 1.0, .best = 0.5},
                       .decode = {.median = 0.125, .best = 0.0625},
                       .picture = {.median = 1.5, .best = 0.75},
                       .cached_picture = {.median = 1.25, .best = 0.5},
                       .step_seconds = {0.25, 0.5, 0.75},
                       .peak_memory_bytes = 2000,
                       .text_flops = 5e11,
                       .step_flops = 1e12,
                       .decode_flops = 25e10,
                       .gemm_flops_per_sec = 5e12,
                       .floor_seconds = request.measure_floor ? 0.4 : 0.0};
    for (const int count : request.batches)
      report.batches.push_back({count, {.median = 2.0, .best = 1.0}});
    return report;
  }

  /// Throws what the program would report.
  void operator()(const std::vector<std::string>& arguments) {
    cli::Context context{
        .in = in,
        .out = out,
        .err = err,
        .terminal_columns = [this] { return columns; },
        .stop_requested = [this] { return stop_requested(); },
        .load_model = [this](const EngineOptions& options, const ProgressCallback&) -> cli::Model {
          loaded.push_back(options);
          return {.info = info,
                  .generate = [this](const auto& r, const auto& p) { return paint(r, p); },
                  .bench = [this](const auto& r, const auto& p) { return bench(r, p); },
                  .save =
                      [this](const auto& r, const auto&) {
                        saved.push_back(r);
                        return SaveResult{
                            .files = {r.folder / "a"}, .bytes = 1000, .warnings = warnings};
                      }};
        }};
    cli::run_program(arguments, context);
  }

  /// The error of one run, which must have one.
  std::optional<Error> error(const std::vector<std::string>& arguments) {
    try {
      (*this)(arguments);
    } catch (const Error& e) {
      return e;
    }
    return std::nullopt;
  }
};

}  // namespace klein::test
