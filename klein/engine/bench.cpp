#include "klein/engine/bench.h"

#include <algorithm>
#include <utility>

#include <fmt/format.h>

#include "klein/core/error.h"
#include "klein/core/stopwatch.h"
#include "klein/engine/machine_speed.h"
#include "klein/models/flux2/flops.h"
#include "klein/pipeline/tensor_files.h"
#include "klein/tensor/random.h"

namespace klein {
namespace {

using Generate = std::function<GenerateResult(const GenerateRequest&)>;

constexpr int kMostRuns = 1000;

/// Makes the pictures and keeps their times.
class Bench {
 public:
  Bench(const BenchRequest& request, const Generate& generate)
      : request_(request), generate_(generate), plain_(request.picture) {
    plain_.references.clear();
  }

  void first(BenchReport& report) {
    report.first = generate_(plain_);
    plain_.save_latents.clear();
    note_peak(report, report.first);
  }

  void after_run(int run, const GenerateResult& result) const {
    if (request_.after_run) request_.after_run(run, result);
  }

  void warm(BenchReport& report) {
    std::vector<double> text, denoise, decode, whole, cached;
    for (int run = 1; run <= request_.runs; ++run) {
      const auto [result, secs] = timed(fresh(plain_));
      text.push_back(result.seconds.at(Stage::encode_text));
      denoise.push_back(result.seconds.at(Stage::denoise));
      decode.push_back(result.seconds.at(Stage::decode));
      report.step_seconds.insert(report.step_seconds.end(), result.step_seconds.begin(),
                                 result.step_seconds.end());
      whole.push_back(secs);
      cached.push_back(timed(plain_).second);
      note_peak(report, result);
      after_run(run, result);
    }
    report.text = RunTimes::of(std::move(text));
    report.denoise = RunTimes::of(std::move(denoise));
    report.decode = RunTimes::of(std::move(decode));
    report.picture = RunTimes::of(std::move(whole));
    report.cached_picture = RunTimes::of(std::move(cached));
    report.step = RunTimes::of(report.step_seconds);
  }

  void batches(BenchReport& report) {
    for (const int pictures : request_.batches) {
      auto request = plain_;
      request.seeds.clear();
      for (int i = 0; i < pictures; ++i)
        request.seeds.push_back(plain_.seed + static_cast<std::uint64_t>(i));
      note_peak(report, generate_(request));  // warms up
      std::vector<double> secs;
      for (int run = 0; run < request_.runs; ++run) secs.push_back(timed(fresh(request)).second);
      report.batches.push_back({.pictures = pictures, .seconds = RunTimes::of(std::move(secs))});
    }
  }

  /// Where the time of a picture with references goes.
  void edit(BenchReport& report) const {
    auto request = request_.picture;
    request.save_latents.clear();
    EditBench bench{.references = static_cast<int>(request.references.size())};
    request.kv_cache = KvCaching::off;
    bench.step_seconds = RunTimes::of(generate_(request).step_seconds).median;
    request.kv_cache = KvCaching::on;
    const auto kept = generate_(request).step_seconds;
    bench.first_step_seconds = kept.front();
    if (kept.size() > 1)
      bench.kept_step_seconds = RunTimes::of({kept.begin() + 1, kept.end()}).median;
    report.edit = bench;
  }

 private:
  static void note_peak(BenchReport& report, const GenerateResult& result) {
    report.peak_memory_bytes = std::max(report.peak_memory_bytes, result.peak_memory_bytes);
  }

  /// With a prompt that nobody has asked for yet; the one before becomes known.
  GenerateRequest fresh(GenerateRequest& request) {
    request.prompt = fmt::format("{}, {}", request_.picture.prompt, ++variations_);
    return request;
  }

  std::pair<GenerateResult, double> timed(const GenerateRequest& request) const {
    const Stopwatch watch;
    auto result = generate_(request);
    return {std::move(result), watch.seconds()};
  }

  const BenchRequest& request_;
  const Generate& generate_;
  GenerateRequest plain_;  ///< Without references.
  int variations_ = 0;     ///< Of the prompt.
};

}  // namespace

RunTimes RunTimes::of(std::vector<double> secs) {
  std::ranges::sort(secs);
  const auto middle = secs.size() / 2;
  return {.median = secs.size() % 2 == 1 ? secs[middle] : (secs[middle - 1] + secs[middle]) / 2.0,
          .best = secs.front()};
}

void BenchRequest::validate() const {
  if (runs < 1 || runs > kMostRuns)
    throw Error(ErrorKind::usage, fmt::format("expected 1 to {} runs, got {}", kMostRuns, runs));
  for (const int pictures : batches)
    if (pictures < 1 || pictures > kMostPicturesAtOnce)
      throw Error(ErrorKind::usage, fmt::format("expected a batch of 1 to {} pictures, got {}",
                                                kMostPicturesAtOnce, pictures));
  picture.validate();
}

BenchReport run_bench(const flux2::Checkpoint& checkpoint, mx::Dtype dtype,
                      const BenchRequest& request, const Generate& generate) {
  request.validate();
  Bench bench(request, generate);
  BenchReport report;
  bench.first(report);

  const int scale = checkpoint.vae.scale();
  const int rows = report.first.height / scale, columns = report.first.width / scale;
  const int text = checkpoint.max_sequence_length, image = rows * columns / 4;
  if (request.save_noise) {
    const mx::Shape shape{1, checkpoint.transformer.in_channels, rows / 2, columns / 2};
    const auto& picture = request.picture;
    write_tensor(
        *request.save_noise, "latents",
        picture.rng == Rng::mlx ? mlx_randn(shape, picture.seed) : torch_randn(shape, picture.seed),
        picture.overwrite);
  }
  bench.after_run(0, report.first);
  bench.warm(report);
  bench.batches(report);

  const int passes = report.first.guidance > 1.0 && !checkpoint.is_distilled() ? 2 : 1;
  const int layers = std::ranges::max(checkpoint.text_encoder_out_layers);
  report.text_flops = passes * flux2::text_flops(checkpoint.text_encoder, layers, text);
  report.step_flops = passes * flux2::step_flops(checkpoint.transformer, text, image);
  report.decode_flops = flux2::decode_flops(checkpoint.vae, rows, columns);
  report.gemm_flops_per_sec = gemm_flops_per_sec(checkpoint.transformer, text + image, dtype);
  if (request.measure_floor)
    report.floor_seconds = passes * step_floor_secs(checkpoint.transformer, text, image, dtype);
  if (!request.picture.references.empty()) bench.edit(report);
  return report;
}

}  // namespace klein
