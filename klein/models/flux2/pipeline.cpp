#include "klein/models/flux2/pipeline.h"

#include <algorithm>
#include <functional>

#include <fmt/format.h>

#include "klein/core/error.h"
#include "klein/core/stopwatch.h"
#include "klein/models/flux2/latents.h"
#include "klein/models/flux2/vae_tiling.h"
#include "klein/ops/backend.h"
#include "klein/ops/host_memory.h"
#include "klein/pipeline/tensor_files.h"
#include "klein/sampling/flow_match.h"
#include "klein/sampling/guidance.h"
#include "klein/tensor/memory.h"
#include "klein/tensor/pace.h"

namespace klein::flux2 {
namespace {

constexpr std::uint64_t kKeptLoraRequests = 4;

void report(const ProgressCallback& progress, const Progress& state) {
  if (progress && !progress(state)) throw Error(ErrorKind::cancelled, "stopped on request");
}

/// Loads what the next stages need.
void load_parts(const std::vector<std::function<void()>>& parts, std::string_view note,
                const ProgressCallback& progress) {
  const int total = static_cast<int>(parts.size());
  report(progress, {.stage = Stage::load, .total = total, .note = note});
  for (int i = 0; i < total; ++i) {
    parts[static_cast<std::size_t>(i)]();
    report(progress, {.stage = Stage::load, .done = i + 1, .total = total});
  }
}

}  // namespace

Pipeline::Pipeline(Checkpoint checkpoint, const LoadOptions& options, const MemoryOptions& memory)
    : checkpoint_(std::move(checkpoint)),
      options_(options),
      memory_(memory),
      bytes_(bytes_of(checkpoint_, options_)),
      loras_(memory.low_ram || memory.budget_bytes ? 1 : kKeptLoraRequests) {
  for (auto& warning : lora_warnings(checkpoint_, options_))
    checkpoint_.warnings.push_back(std::move(warning));
}

/// Has the LoRAs of a request ready for the layers. Keys and values of references are theirs too.
void Pipeline::put_on(const std::vector<LoraChoice>& loras) {
  auto adapters = loras_.read(loras, checkpoint_, options_.dtype);
  if (references_ && adapters.transformer_key != adapters_.transformer_key)
    references_->cache.reset();
  adapters_ = std::move(adapters);
}

MemoryPlan Pipeline::plan_memory(const GenerateRequest& request, const RequestPlan& plan) const {
  const int side = 2 * checkpoint_.vae.scale();
  Workload work{.text_tokens = checkpoint_.max_sequence_length,
                .rows = plan.rows,
                .columns = plan.columns,
                .reference_tokens = plan.reference_tokens(side),
                .keeps_references = plan.kv_cache,
                .batch = plan.batch(),
                .passes = plan.classifier_free ? 2 : 1,
                .encodes = !prompts_to_encode(request, plan).empty(),
                .needs_vae_early = plan.needs_vae_early,
                .vae_tiling = request.vae_tiling,
                .next = request.next,
                .low_ram = memory_.low_ram,
                .budget_bytes = memory_.budget_bytes.value_or(usable_memory_bytes()),
                .adapter_bytes = loras_.nbytes(),
                .has_adapters = !adapters_.transformer.empty(),
                .has_text_encoder = text_encoder_.has_value()};
  const auto note_picture = [&](const io::Image& image) {
    if (image.width * image.height <= work.encoded_rows * work.encoded_columns) return;
    work.encoded_rows = image.height;
    work.encoded_columns = image.width;
  };
  for (const auto& reference : plan.references) note_picture(reference);
  if (plan.picture) note_picture(*plan.picture);
  const auto memory = flux2::plan_memory(checkpoint_, options_, bytes_, work);
  expect_fits(memory, work, plan.width, plan.height, memory_.budget_bytes.has_value());
  return memory;
}

void Pipeline::load_text(const MemoryPlan& memory) {
  if (!tokenizer_) tokenizer_ = tokenizer::Tokenizer::load(checkpoint_.tokenizer);
  if (memory.stream_text_encoder) {
    text_encoder_.reset();
    if (!streamed_text_encoder_) {
      streamed_text_encoder_.emplace(checkpoint_, options_);
      ++loaded_parts_;
    }
    streamed_text_encoder_->set_adapters(adapters_.text_encoder);
  } else {
    if (!text_encoder_) {
      text_encoder_ = checkpoint_.load_text_encoder(options_);
      ++loaded_parts_;
    }
    weights::set_adapters(*text_encoder_, adapters_.text_encoder);
  }
}

/// What an earlier request left is used as it is, unless it is more than may be in memory now.
void Pipeline::load_transformer(const MemoryPlan& memory) {
  if (transformer_ && transformer_->streamed_blocks() < memory.streamed_blocks)
    transformer_.reset();
  if (!transformer_) {
    transformer_.emplace(checkpoint_, options_, memory.block_count - memory.streamed_blocks);
    ++loaded_parts_;
  }
  transformer_->set_adapters(adapters_.transformer);
}

void Pipeline::load_vae() {
  if (vae_) return;
  vae_ = checkpoint_.load_vae(options_);
  ++loaded_parts_;
}

/// The timesteps of a request's steps, in [0, 1]; equal ones are the same arrays again.
const std::vector<mx::array>& Pipeline::times_of(const RequestPlan& plan) {
  const auto& all = plan.schedule.timesteps;
  std::vector<float> timesteps(all.begin() + plan.first_step, all.end());
  const int batch = plan.batch();
  if (times_.timesteps == timesteps && times_.batch == batch) return times_.arrays;
  times_ = {.timesteps = std::move(timesteps), .batch = batch, .arrays = {}};
  for (const float timestep : times_.timesteps)  // rounded before the division, as the reference
    times_.arrays.push_back(mx::full({batch}, timestep, options_.dtype) /
                            mx::array(1000.0f, options_.dtype));
  return times_.arrays;
}

mx::array Pipeline::denoise(const GenerateRequest& request, const RequestPlan& plan,
                            const Prompts& prompts, const Conditioning& conditioning,
                            const VaePlan& how, GenerateResult& result,
                            const ProgressCallback& progress) {
  auto latents = conditioning.latents;
  const auto& references = conditioning.references;
  const auto& held = conditioning.held;
  auto ids = image_position_ids(plan.rows, plan.columns);
  const int length = latents.shape(1), batch = latents.shape(0);
  const auto& sigmas = plan.schedule.sigmas;

  Stopwatch watch;
  report(progress, {.stage = Stage::denoise, .done = 0, .total = plan.steps()});
  const auto* cache = read_references(plan, references);
  const bool reads_references = !references.ids.empty() && cache == nullptr;
  if (reads_references) ids.insert(ids.end(), references.ids.begin(), references.ids.end());
  const auto seen = reads_references ? mx::repeat(references.tokens, batch, 0) : references.tokens;
  const auto rope_for = [&](const mx::array& embeds) {
    return transformer_->rope(embeds.shape(1), ids);
  };
  const auto positive_rope = rope_for(prompts.positive);
  const auto negative_rope = prompts.negative ? rope_for(*prompts.negative) : positive_rope;
  std::vector<mx::array> texts{prompts.positive};
  if (prompts.negative) texts.push_back(*prompts.negative);
  const auto& times = times_of(plan);
  transformer_->prepare(times, texts);

  Pace pace;  // a GPU begins the next step before anyone hears of this one
  mx::array estimate = latents;
  const auto finish_step = [&] {
    result.step_seconds.push_back(watch.restart());
    const int done = static_cast<int>(result.step_seconds.size());
    if (request.preview) {
      show(request, plan, estimate, done, how);
      watch.restart();
    }
    report(progress, {.stage = Stage::denoise, .done = done, .total = plan.steps()});
  };
  auto i = static_cast<std::size_t>(plan.first_step);
  for (const auto& t : times) {
    const auto input = reads_references ? mx::concatenate({latents, seen}, 1) : latents;
    std::vector<TransformerInput> passes{{input, prompts.positive, t, positive_rope, cache}};
    if (prompts.negative) passes.push_back({input, *prompts.negative, t, negative_rope, cache});
    auto velocity = (*transformer_)(passes, pace);
    for (auto& v : velocity) v = mx::slice(v, {0, 0, 0}, {batch, length, v.shape(2)});
    const auto guided = prompts.negative ? sampling::guide(velocity[0], velocity[1],
                                                           static_cast<float>(plan.guidance))
                                         : velocity[0];
    if (request.preview) estimate = sampling::clean_estimate(latents, guided, sigmas[i]);
    const float next = sigmas[i + 1];
    latents = sampling::euler_step(latents, guided, sigmas[i++], next);
    if (held) latents = (*held)(latents, next);
    pace.start({latents}, finish_step);
    if (request.preview) pace.finish();
  }
  pace.finish();
  return latents;
}

const LatentRgb& Pipeline::latent_rgb() {
  if (latent_rgb_) return *latent_rgb_;
  const auto file = checkpoint_.vae_source.path / kLatentRgbFile;
  latent_rgb_ = std::filesystem::exists(file) ? LatentRgb::read(file) : LatentRgb::published();
  const int channels = checkpoint_.vae.latent_channels;
  if (latent_rgb_->weight.shape(0) != channels)
    throw Error(ErrorKind::shape,
                fmt::format("expected a map to RGB from {} latent channels, got one from {}: {}",
                            channels, latent_rgb_->weight.shape(0), file.string()),
                "Ask for decoded previews.");
  return *latent_rgb_;
}

/// Hands over what the picture would be.
void Pipeline::show(const GenerateRequest& request, const RequestPlan& plan,
                    const mx::array& estimate, int step, const VaePlan& how) {
  Preview preview{.step = step, .steps = plan.steps(), .images = {}};
  if (request.preview_kind == PreviewKind::decoded) {
    preview.images = decode(estimate, plan, how);
  } else {
    const auto grid = unpack_latents(vae_->denormalize(estimate), plan.rows, plan.columns);
    preview.images = latent_rgb()(grid);
  }
  request.preview(preview);
}

std::vector<io::Image> Pipeline::decode(const mx::array& latents, const RequestPlan& plan,
                                        const VaePlan& how) const {
  const auto grid = unpack_latents(vae_->denormalize(latents), plan.rows, plan.columns);
  std::vector<io::Image> images;
  for (int b = 0; b < grid.shape(0); ++b) {  // one at a time: memory for one picture only
    const auto one =
        mx::slice(grid, {b, 0, 0, 0}, {b + 1, grid.shape(1), grid.shape(2), grid.shape(3)});
    images.push_back(to_image(flux2::decode(*vae_, one, how)));
  }
  return images;
}

/// Inpainting: into the picture as it was.
std::vector<io::Image> Pipeline::put_back(const GenerateRequest& request, const RequestPlan& plan,
                                          std::vector<io::Image> images) const {
  if (!plan.canvas) return images;
  const auto& task = *request.inpaint;
  const auto preserve = task.preserve.value_or(task.expand ? Preserve::blend : Preserve::none);
  for (auto& image : images) image = finish(*plan.canvas, image, preserve);
  return images;
}

GenerateResult Pipeline::empty_result(const RequestPlan& plan, const MemoryPlan& memory) const {
  GenerateResult result;
  result.steps = plan.steps();
  result.guidance = plan.guidance;
  result.memory = memory.report();
  for (const auto* warnings : {&checkpoint_.warnings, &adapters_.warnings, &plan.warnings})
    result.warnings.insert(result.warnings.end(), warnings->begin(), warnings->end());
  return result;
}

GenerateResult Pipeline::generate(const GenerateRequest& request,
                                  const ProgressCallback& progress) {
  const auto plan = plan_request(request, checkpoint_);
  put_on(request.loras);
  loaded_parts_ = 0;
  const auto memory = plan_memory(request, plan);
  auto result = empty_result(plan, memory);

  Stopwatch watch;
  const auto lap = [&](Stage stage) { result.seconds[stage] += watch.restart(); };
  const auto load = [&](const std::vector<std::function<void()>>& parts, std::string_view note) {
    load_parts(parts, note, progress);
    lap(Stage::load);
  };
  const auto unknown = prompts_to_encode(request, plan);
  const auto text = [&] {
    if (!unknown.empty()) load_text(memory);
  };
  const auto transformer = [&] { load_transformer(memory); };
  const auto vae = [&] { load_vae(); };

  const auto note = memory.is_notable ? std::string_view(result.memory.plan) : std::string_view();
  if (memory.load_at_once)
    load({text, transformer, vae}, note);
  else
    load({text}, note);

  report(progress, {.stage = Stage::encode_text});
  auto drawn = draw_noise(request, plan);
  if (!unknown.empty()) encode(unknown);
  const auto noise = this->noise(request, plan, std::move(drawn));
  const auto prompts = this->prompts(request, plan);
  mx::eval(noise, prompts.positive, prompts.negative.value_or(prompts.positive));
  if (memory.drop_text_encoder || streamed_text_encoder_) {
    streamed_text_encoder_.reset();
    text_encoder_.reset();
    mx::clear_cache();
  }
  report(progress, {.stage = Stage::encode_text, .done = 1});
  lap(Stage::encode_text);

  if (!memory.load_at_once && plan.needs_vae_early) load({vae}, {});
  if (plan.encodes_pictures()) report(progress, {.stage = Stage::encode_image});
  const auto conditioning = condition(plan, noise, memory.encode);
  if (plan.encodes_pictures()) {
    mx::clear_cache();
    report(progress, {.stage = Stage::encode_image, .done = 1});
    lap(Stage::encode_image);
  }

  if (!memory.load_at_once) load({transformer}, {});
  const auto latents =
      denoise(request, plan, prompts, conditioning, memory.decode, result, progress);
  auto finite = all_finite(latents);
  mx::async_eval(finite);  // asked for when the decoder is at work
  if (!request.save_latents.empty()) {
    expect_finite(ops::bytes_of(finite).front() != 0);
    write_rows(request.save_latents, "latents", mx::astype(latents, mx::float32),
               request.overwrite);
  }
  if (request.next == NextRequest::none) references_.reset();
  if (memory.drop_transformer) {
    transformer_.reset();
    mx::clear_cache();
  }
  lap(Stage::denoise);

  if (!memory.load_at_once) load({vae}, {});
  report(progress, {.stage = Stage::decode});
  auto images = decode(latents, plan, memory.decode);
  expect_finite(ops::bytes_of(finite).front() != 0);
  result.images = put_back(request, plan, std::move(images));
  result.width = result.images.front().width;
  result.height = result.images.front().height;
  report(progress, {.stage = Stage::decode, .done = 1});
  lap(Stage::decode);
  result.loaded_parts = loaded_parts_;
  result.peak_memory_bytes = std::max(peak_memory_bytes(), ops::gpu_peak_bytes());
  return result;
}

}  // namespace klein::flux2
