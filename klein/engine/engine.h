#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "klein/core/options.h"
#include "klein/core/progress.h"
#include "klein/pipeline/request.h"
#include "klein/pipeline/save_request.h"
#include "klein/quant/target.h"

namespace klein {

/// Which model to run, and how.
struct EngineOptions {
  /// "demo", "demo-kv", "demo-base", a folder, a file, a name of the registry ("klein-4b"), or
  /// "org/repo" of the hub.
  std::string model = "demo";
  std::string base_model = {};  ///< What the model was made from, where its name does not tell.

  /// Files or folders that take the place of the model's own parts.
  std::optional<std::string> transformer = {}, text_encoder = {}, vae = {}, tokenizer = {};

  /// Packs a part's weights when they are loaded.
  std::optional<quant::Target> quantize_transformer = {}, quantize_text_encoder = {},
                               quantize_vae = {};

  /// Merged when weights are loaded, before these are packed; they add up, also the same one twice.
  /// Those of a request come on top.
  std::vector<LoraChoice> loras = {};
  Precision precision = Precision::bfloat16;
  MathMode math = MathMode::fast;
  DeviceChoice device = DeviceChoice::automatic;

  /// As little memory as possible without reading weights from disk again and again: parts come
  /// and go, pictures are decoded in strips, and a GPU's freed memory is kept up to 1 GB only.
  bool low_ram = false;

  /// Freed memory that a GPU keeps, in 1000^3 bytes. Unset: MLX's own limit, 1 with low_ram or a
  /// memory budget.
  std::optional<double> cache_limit_gb = {};

  /// Memory for the whole process, or of the GPU, in 1000^3 bytes; what does not fit is streamed
  /// from disk. Unset: what the system has left.
  std::optional<double> memory_budget_gb = {};
};

/// What a model's own files say about it.
struct ModelInfo {
  std::filesystem::path folder;
  std::string variant = {};   ///< "distilled", "base", "kv".
  bool is_distilled = false;  ///< Distilled models take few steps and no guidance.
  int default_steps = 0;
  double default_guidance = 1.0;
  int default_size = 0;  ///< Side in pixels of a picture when the request names none.
  std::string device;    ///< "cpu" or "gpu".
};

/// What reference pictures cost: the fastest step that sees them in each way.
struct EditBench {
  int references = 0;
  double step_seconds = 0.0;        ///< Read in every step.
  double kept_step_seconds = 0.0;   ///< Kept, from the second step on.
  double first_step_seconds = 0.0;  ///< Kept: the first step, which reads them.
};

/// Seconds of the same work done several times.
struct RunTimes {
  double median = 0.0, best = 0.0;

  static RunTimes of(std::vector<double> secs);  ///< Of at least one run.
};

/// Several pictures at once, from the prompt to pixels.
struct BatchBench {
  int pictures = 0;
  RunTimes seconds;
};

/// What to measure.
struct BenchRequest {
  GenerateRequest picture;
  int runs = 3;                   ///< Warm pictures, behind a first one that is not.
  std::vector<int> batches = {};  ///< Also so many pictures at once.
  bool measure_floor = false;     ///< Also BenchReport::floor_seconds; takes 2 seconds.

  /// The first picture's starting noise, for `latents` of another request.
  std::optional<std::filesystem::path> save_noise = {};

  /// Called behind the first picture (run 0) and each warm one, so that others may take turns.
  std::function<void(int run, const GenerateResult&)> after_run = {};

  /// Throws Error(usage) for a number of runs outside 1 to 1000, or of pictures outside 1 to 64;
  /// as GenerateRequest::validate.
  void validate() const;
};

/// How fast a model runs, and how fast it could. Warm times are those behind the first picture; the
/// prompt is a little different each time, so that its embeddings are not known yet.
struct BenchReport {
  GenerateResult first;  ///< Of the prompt as it is; loads the weights and warms everything up.
  RunTimes text, step, denoise, decode;
  RunTimes picture;                       ///< From the prompt to 8-bit pixels in memory.
  RunTimes cached_picture;                ///< The same with a prompt whose embeddings are known.
  std::vector<double> step_seconds = {};  ///< All of the warm steps.
  std::vector<BatchBench> batches = {};
  std::uint64_t peak_memory_bytes = 0;
  double text_flops = 0.0;          ///< Floating-point operations of the text encoder's pass,
  double step_flops = 0.0;          ///< of one denoising step,
  double decode_flops = 0.0;        ///< and of the decoder.
  double gemm_flops_per_sec = 0.0;  ///< Of one large matrix product with the model's own shapes.

  /// What the products and attentions of a step take alone, back to back; 0 where not measured.
  double floor_seconds = 0.0;
  std::optional<EditBench> edit = {};  ///< Where the request has references; no other has them.
};

/// A loaded model on a thread of its own: text in, pictures out.
///
/// Thread   any; requests from several threads wait for each other
class Engine {
 public:
  /// Downloads a model that is on the hub only; `progress` hears of it on the engine's thread.
  ///
  /// Errors   Error(not_found), Error(format), Error(shape), Error(unsupported) for a model that is
  ///          missing or broken; Error(unsupported) for a device that is not there; Error(usage)
  ///          for a base model that is no name, and for a limit or budget that is not above 0;
  ///          Error(io), Error(cancelled) for a download that fails; the same for a LoRA, and when
  ///          it is not for this model
  explicit Engine(const EngineOptions& options, const ProgressCallback& progress = {});
  Engine(Engine&&) noexcept;
  Engine& operator=(Engine&&) noexcept;
  ~Engine();

  const ModelInfo& info() const;

  /// Makes the picture or pictures of `request`; `progress` is called on the engine's thread.
  ///
  /// Weights are loaded by the first request. LoRAs that are on the hub only are downloaded; what a
  /// name stood for once it stands for as long as that file exists.
  ///
  /// Errors   as flux2::Pipeline::generate, and find_lora; Error(memory) when the system has no
  ///          memory left, or too little for the picture
  GenerateResult generate(const GenerateRequest& request, const ProgressCallback& progress = {});

  /// Writes the model to a folder, packed as the options say; all of it or nothing. `progress` is
  /// called on the engine's thread.
  ///
  /// Errors   Error(usage) when the folder exists and is not empty, or the layout cannot hold
  ///          packed weights; Error(unsupported) when it cannot hold the model; Error(shape),
  ///          Error(format) for weights that are broken; Error(io), Error(cancelled)
  SaveResult save(const SaveRequest& request, const ProgressCallback& progress = {});

  /// Makes pictures and takes their times, and those of the machine's matrix products. Errors as
  /// generate.
  BenchReport bench(const BenchRequest& request, const ProgressCallback& progress = {});

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace klein
