#include "klein/engine/engine.h"

#include <filesystem>
#include <map>
#include <optional>
#include <string>
#include <system_error>
#include <utility>
#include <vector>

#include <fmt/format.h>

#include "klein/core/error.h"
#include "klein/engine/bench.h"
#include "klein/engine/device_thread.h"
#include "klein/engine/find_lora.h"
#include "klein/engine/open_model.h"
#include "klein/models/flux2/pipeline.h"
#include "klein/models/flux2/save.h"
#include "klein/ops/backend.h"
#include "klein/tensor/device.h"

namespace klein {
namespace {

constexpr double kGiga = 1e9;
constexpr double kTightCacheGb = 1.0;
constexpr double kPoolCacheGb = 0.05;

std::optional<std::uint64_t> bytes_from(const std::optional<double>& gigabytes, const char* what) {
  if (!gigabytes) return std::nullopt;
  constexpr double most = 1e9;
  if (!(*gigabytes > 0.0 && *gigabytes < most))
    throw Error(ErrorKind::usage,
                fmt::format("expected a {} above 0 GB, got {}", what, *gigabytes));
  return static_cast<std::uint64_t>(*gigabytes * kGiga);
}

}  // namespace

struct Engine::Impl {
  Impl(const EngineOptions& options, const ProgressCallback& progress) : options_(options) {
    thread_.run([&] {
      translated([&] {
        use_device(options_.device);
        ops::use_math(options_.math);
        const auto memory = memory_options();
        limit_memory(memory);
        const auto location =
            find_model(options_.model, {.base_model = options_.base_model, .progress = progress});
        auto checkpoint =
            flux2::Checkpoint::read(model_files(options_, location, {.progress = progress}));
        load_options_ = load_options(options_);
        for (const auto& [name, scale] : options_.loras) {
          const auto file = find_lora(name, progress);
          load_options_.loras.push_back(flux2::read_lora(file, scale, checkpoint));
          merged_.push_back({.name = name, .file = file, .scale = scale, .is_merged = true});
        }
        pipeline_.emplace(std::move(checkpoint), load_options_, memory);
      });
    });
    const auto& checkpoint = pipeline_->checkpoint();
    info_ = {.folder = checkpoint.path,
             .variant = std::string(flux2::name_of(checkpoint.variant)),
             .is_distilled = checkpoint.is_distilled(),
             .default_steps = checkpoint.default_steps(),
             .default_guidance = checkpoint.default_guidance(),
             .default_size = checkpoint.vae.sample_size,
             .device = thread_.run([] { return device_name(); })};
  }

  /// The arrays die where they were made.
  ~Impl() {
    thread_.run([this] {
      pipeline_.reset();
      load_options_ = {};
    });
  }

  flux2::MemoryOptions memory_options() const {
    return {.low_ram = options_.low_ram,
            .budget_bytes = bytes_from(options_.memory_budget_gb, "memory budget")};
  }

  /// Only a GPU keeps freed memory; on the CPU it goes back to the system. What MLX keeps is of no
  /// use to kernels that take theirs from the driver's pool.
  void limit_memory(const flux2::MemoryOptions& memory) const {
    auto cache = bytes_from(options_.cache_limit_gb, "cache limit");
    if (!cache && ops::has_own_gpu_memory())
      cache = bytes_from(kPoolCacheGb, "cache limit");
    else if (!cache && (options_.low_ram || memory.budget_bytes))
      cache = bytes_from(kTightCacheGb, "cache limit");
    if (cache) mx::set_cache_limit(*cache);
    if (memory.budget_bytes && mx::default_device() == mx::Device::gpu)
      mx::set_memory_limit(*memory.budget_bytes);
  }

  /// The file that a name stands for. The hub is asked once for each.
  const std::filesystem::path& lora_file(const std::string& name,
                                         const ProgressCallback& progress) {
    std::error_code error;
    auto& file = lora_files_[name];
    if (file.empty() || !std::filesystem::exists(file, error)) file = find_lora(name, progress);
    return file;
  }

  GenerateResult generate(GenerateRequest request, const ProgressCallback& progress) {
    request.validate();
    auto used = merged_;
    for (auto& lora : request.loras) {
      const auto& file = lora_file(lora.name, progress);
      used.push_back({.name = lora.name, .file = file, .scale = lora.scale});
      lora.name = file.string();
    }
    auto result = pipeline_->generate(request, progress);
    result.loras = std::move(used);
    if (options_.math == MathMode::exact && info_.device == "cpu")
      result.warnings.emplace_back(
          "the precision exact has no effect on the CPU, which computes in one way only");
    if (options_.cache_limit_gb && info_.device == "cpu")
      result.warnings.emplace_back(
          "the cache limit has no effect on the CPU, which keeps no freed memory");
    return result;
  }

  EngineOptions options_;
  flux2::LoadOptions load_options_;
  std::optional<flux2::Pipeline> pipeline_;
  std::vector<UsedLora> merged_;
  std::map<std::string, std::filesystem::path> lora_files_;  ///< By the names of requests.
  ModelInfo info_;
  DeviceThread thread_;
};

Engine::Engine(const EngineOptions& options, const ProgressCallback& progress)
    : impl_(std::make_unique<Impl>(options, progress)) {}
Engine::Engine(Engine&&) noexcept = default;
Engine& Engine::operator=(Engine&&) noexcept = default;
Engine::~Engine() = default;

const ModelInfo& Engine::info() const {
  return impl_->info_;
}

GenerateResult Engine::generate(const GenerateRequest& request, const ProgressCallback& progress) {
  return impl_->thread_.run(
      [&] { return translated([&] { return impl_->generate(request, progress); }); });
}

SaveResult Engine::save(const SaveRequest& request, const ProgressCallback& progress) {
  return impl_->thread_.run([&] {
    return translated([&] {
      return flux2::save(impl_->pipeline_->checkpoint(), impl_->load_options_, request, progress);
    });
  });
}

BenchReport Engine::bench(const BenchRequest& request, const ProgressCallback& progress) {
  return impl_->thread_.run([&] {
    return translated([&] {
      return run_bench(
          impl_->pipeline_->checkpoint(), mlx_dtype(impl_->options_.precision), request,
          [&](const GenerateRequest& picture) { return impl_->generate(picture, progress); });
    });
  });
}

}  // namespace klein
