#include "klein/models/flux2/pipeline.h"

#include <algorithm>
#include <cmath>
#include <functional>

#include <fmt/format.h>

#include "klein/core/error.h"
#include "klein/core/stopwatch.h"
#include "klein/models/flux2/latents.h"
#include "klein/models/flux2/vae_tiling.h"
#include "klein/pipeline/tensor_files.h"
#include "klein/sampling/flow_match.h"
#include "klein/sampling/guidance.h"
#include "klein/tensor/check.h"
#include "klein/tensor/memory.h"
#include "klein/tensor/random.h"
#include "klein/tokenizer/prompt_tokens.h"

namespace klein::flux2 {
namespace {

constexpr std::size_t kKeptEmbeddings = 8;  // a few MB each at most; saves a pass a seed

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

/// A distilled model has guidance built in: an own one would be ignored, so it is refused.
void expect_no_guidance(const GenerateRequest& request) {
  constexpr const char* hint = "Leave it out, or use a base model.";
  if (request.negative_prompt && !request.negative_prompt->empty())
    throw Error(ErrorKind::usage,
                "expected no negative prompt, since a distilled model runs without guidance", hint);
  if (request.guidance && *request.guidance != 1.0)
    throw Error(ErrorKind::usage,
                fmt::format("expected guidance 1, since a distilled model runs without it, got {}",
                            *request.guidance),
                hint);
}

/// The batch is as large as the latents; one prompt serves all of them.
mx::array for_batch(const mx::array& embeds, int batch) {
  if (embeds.shape(0) == batch) return embeds;
  if (embeds.shape(0) != 1)
    throw Error(ErrorKind::shape, fmt::format("expected prompt embeddings for 1 or {} pictures, "
                                              "got {}",
                                              batch, describe(embeds)));
  return mx::repeat(embeds, batch, 0);
}

}  // namespace

/// Everything that is settled before the first number is computed.
struct Pipeline::Plan {
  int width = 0, height = 0;  ///< Pixels.
  int rows = 0, columns = 0;  ///< Tokens.
  double guidance = 1.0;
  sampling::Schedule schedule;
  std::optional<mx::array> latents;  ///< From the request's file, [B, C, rows, columns].
  bool classifier_free = false;
  std::vector<std::string> warnings;
};

Pipeline::Pipeline(Checkpoint checkpoint, const LoadOptions& options, const MemoryOptions& memory)
    : checkpoint_(std::move(checkpoint)),
      options_(options),
      memory_(memory),
      bytes_(bytes_of(checkpoint_, options_)) {
  for (auto& warning : lora_warnings(checkpoint_, options_))
    checkpoint_.warnings.push_back(std::move(warning));
}

Pipeline::Plan Pipeline::plan(const GenerateRequest& request) const {
  request.validate();
  Plan plan;
  if (checkpoint_.is_distilled()) expect_no_guidance(request);
  plan.guidance = request.guidance.value_or(checkpoint_.default_guidance());
  plan.classifier_free = plan.guidance > 1.0 && !checkpoint_.is_distilled();

  const int pixels_per_token = 2 * checkpoint_.vae.scale();
  const auto side = [&](const char* name, const std::optional<int>& asked) {
    const int wanted = asked.value_or(checkpoint_.vae.sample_size);
    const int floored = wanted / pixels_per_token * pixels_per_token;
    if (floored < 1)
      throw Error(ErrorKind::usage, fmt::format("expected a {} of at least {} pixels, got {}", name,
                                                pixels_per_token, wanted));
    if (floored != wanted)
      plan.warnings.push_back(fmt::format("{} {} is not a multiple of {}, using {}", name, wanted,
                                          pixels_per_token, floored));
    return floored;
  };
  auto width = request.width, height = request.height;
  if (request.latents) {
    plan.latents = read_tensor(*request.latents, "latents");
    const auto& shape = plan.latents->shape();
    if (shape.size() != 4 || shape[1] != checkpoint_.transformer.in_channels || shape[0] < 1 ||
        shape[2] < 1 || shape[3] < 1)
      throw Error(
          ErrorKind::shape,
          fmt::format("expected latents [B, {}, H/{}, W/{}], got {}: {}",
                      checkpoint_.transformer.in_channels, pixels_per_token, pixels_per_token,
                      describe(*plan.latents), request.latents->string()));
    if (!height) height = shape[2] * pixels_per_token;
    if (!width) width = shape[3] * pixels_per_token;
  }
  plan.width = side("width", width);
  plan.height = side("height", height);
  // Once more with both sides known: one of them may be the model's own, or the file's.
  GenerateRequest{.width = plan.width, .height = plan.height}.validate();
  plan.rows = plan.height / pixels_per_token;
  plan.columns = plan.width / pixels_per_token;
  if (plan.latents &&
      (plan.latents->shape(2) != plan.rows || plan.latents->shape(3) != plan.columns))
    throw Error(ErrorKind::shape,
                fmt::format("expected latents of {} x {} tokens for {} x {} pixels, got {}: {}",
                            plan.rows, plan.columns, plan.width, plan.height,
                            describe(*plan.latents), request.latents->string()));

  const int steps =
      request.steps.value_or(request.sigmas.empty() ? checkpoint_.default_steps()
                                                    : static_cast<int>(request.sigmas.size()));
  plan.schedule = sampling::make_schedule(
      checkpoint_.scheduler,
      request.sigmas.empty() ? sampling::linear_sigmas(steps) : request.sigmas,
      sampling::empirical_mu(plan.rows * plan.columns, steps));
  return plan;
}

std::vector<std::string> Pipeline::prompts_to_encode(const GenerateRequest& request,
                                                     const Plan& plan) const {
  std::vector<std::string> wanted, unknown;
  if (!request.prompt_embeds) wanted.push_back(request.prompt);
  if (plan.classifier_free) wanted.push_back(request.negative_prompt.value_or(""));
  for (const auto& prompt : wanted)
    if (std::ranges::none_of(embeddings_, [&](const auto& e) { return e.first == prompt; }) &&
        std::ranges::find(unknown, prompt) == unknown.end())
      unknown.push_back(prompt);
  return unknown;
}

MemoryPlan Pipeline::plan_memory(const GenerateRequest& request, const Plan& plan) const {
  const Workload work{.text_tokens = checkpoint_.max_sequence_length,
                      .rows = plan.rows,
                      .columns = plan.columns,
                      .batch = plan.latents ? plan.latents->shape(0) : 1,
                      .passes = plan.classifier_free ? 2 : 1,
                      .encodes = !prompts_to_encode(request, plan).empty(),
                      .vae_tiling = request.vae_tiling,
                      .next = request.next,
                      .low_ram = memory_.low_ram,
                      .budget_bytes = memory_.budget_bytes.value_or(usable_memory_bytes()),
                      .has_text_encoder = text_encoder_.has_value()};
  const auto memory = flux2::plan_memory(checkpoint_, options_, bytes_, work);
  expect_fits(memory, work, plan.width, plan.height, memory_.budget_bytes.has_value());
  return memory;
}

void Pipeline::load_text(const MemoryPlan& memory) {
  if (!tokenizer_) tokenizer_ = tokenizer::Tokenizer::load(checkpoint_.tokenizer);
  if (memory.stream_text_encoder) {
    text_encoder_.reset();
    if (!streamed_text_encoder_) streamed_text_encoder_.emplace(checkpoint_, options_);
  } else if (!text_encoder_) {
    text_encoder_ = checkpoint_.load_text_encoder(options_);
  }
}

/// What an earlier request left is used as it is, unless it is more than may be in memory now.
void Pipeline::load_transformer(const MemoryPlan& memory) {
  if (transformer_ && transformer_->streamed_blocks() < memory.streamed_blocks)
    transformer_.reset();
  if (!transformer_)
    transformer_.emplace(checkpoint_, options_, memory.block_count - memory.streamed_blocks);
}

void Pipeline::load_vae() {
  if (!vae_) vae_ = checkpoint_.load_vae(options_);
}

void Pipeline::encode(const std::vector<std::string>& prompts) {
  std::vector<qwen3::TokenRow> rows;
  for (const auto& prompt : prompts) {
    auto tokens = tokenizer::encode_prompt(*tokenizer_, prompt, checkpoint_.max_sequence_length);
    rows.push_back({.ids = std::move(tokens.ids), .length = tokens.length});
  }
  std::vector<mx::array> embeds;
  if (streamed_text_encoder_) {
    embeds = (*streamed_text_encoder_)(rows);
  } else {
    for (const auto& row : rows) embeds.push_back((*text_encoder_)({&row, 1}));
    mx::eval(embeds);
  }
  for (std::size_t i = 0; i < prompts.size(); ++i)
    embeddings_.emplace_front(prompts[i], std::move(embeds[i]));
}

/// Of a prompt that was encoded; it becomes the newest one.
const mx::array& Pipeline::embedding(const std::string& prompt) {
  embeddings_.splice(embeddings_.begin(), embeddings_,
                     std::ranges::find(embeddings_, prompt, [](const auto& e) { return e.first; }));
  return embeddings_.front().second;
}

Pipeline::Prompts Pipeline::prompts(const GenerateRequest& request, const Plan& plan) {
  const auto given = [&](const std::filesystem::path& path) {
    auto embeds = read_tensor(path, "prompt_embeds");
    const int features = checkpoint_.transformer.joint_attention_dim;
    if (embeds.ndim() != 3 || embeds.shape(2) != features || embeds.shape(0) < 1 ||
        embeds.shape(1) < 1)
      throw Error(ErrorKind::shape,
                  fmt::format("expected prompt_embeds [B, tokens, {}], got {}: {}", features,
                              describe(embeds), path.string()));
    return mx::astype(embeds, options_.dtype);
  };
  const int batch = plan.latents ? plan.latents->shape(0) : 1;
  const auto positive =
      request.prompt_embeds ? given(*request.prompt_embeds) : embedding(request.prompt);
  if (request.save_prompt_embeds)
    write_tensor(*request.save_prompt_embeds, "prompt_embeds", positive, request.overwrite);
  Prompts prompts{for_batch(positive, batch), std::nullopt};
  if (plan.classifier_free)
    prompts.negative = for_batch(embedding(request.negative_prompt.value_or("")), batch);
  while (embeddings_.size() > kKeptEmbeddings) embeddings_.pop_back();
  return prompts;
}

mx::array Pipeline::starting_noise(const GenerateRequest& request, const Plan& plan) const {
  if (plan.latents) return tokens_from_grid(mx::astype(*plan.latents, options_.dtype));
  const mx::Shape shape{1, checkpoint_.transformer.in_channels, plan.rows, plan.columns};
  const auto noise =
      request.rng == Rng::mlx ? mlx_randn(shape, request.seed) : torch_randn(shape, request.seed);
  return tokens_from_grid(mx::astype(noise, options_.dtype));
}

mx::array Pipeline::denoise(const Plan& plan, const Prompts& prompts, mx::array latents,
                            GenerateResult& result, const ProgressCallback& progress) const {
  const auto ids = image_position_ids(plan.rows, plan.columns);
  const auto rope_for = [&](const mx::array& embeds) {
    return transformer_->rope(embeds.shape(1), ids);
  };
  const auto positive_rope = rope_for(prompts.positive);
  const auto negative_rope = prompts.negative ? rope_for(*prompts.negative) : positive_rope;
  const auto& [sigmas, timesteps] = plan.schedule;

  for (std::size_t i = 0; i < timesteps.size(); ++i) {
    report(progress,
           {.stage = Stage::denoise, .done = static_cast<int>(i), .total = plan.schedule.steps()});
    const Stopwatch watch;
    // Rounded to the dtype of the latents before the division, as the reference does.
    const auto t = mx::full({latents.shape(0)}, timesteps[i], options_.dtype) /
                   mx::array(1000.0f, options_.dtype);
    std::vector<TransformerInput> passes{{latents, prompts.positive, t, positive_rope}};
    if (prompts.negative) passes.push_back({latents, *prompts.negative, t, negative_rope});
    const auto velocity = (*transformer_)(passes);
    const auto guided = prompts.negative ? sampling::guide(velocity[0], velocity[1],
                                                           static_cast<float>(plan.guidance))
                                         : velocity[0];
    latents = sampling::euler_step(latents, guided, sigmas[i], sigmas[i + 1]);
    mx::eval(latents);
    result.step_seconds.push_back(watch.seconds());
  }
  report(progress,
         {.stage = Stage::denoise, .done = plan.schedule.steps(), .total = plan.schedule.steps()});
  return latents;
}

std::vector<io::Image> Pipeline::decode(const mx::array& latents, const Plan& plan,
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

GenerateResult Pipeline::generate(const GenerateRequest& request,
                                  const ProgressCallback& progress) {
  const auto plan = this->plan(request);
  const auto memory = plan_memory(request, plan);
  GenerateResult result;
  result.width = plan.width;
  result.height = plan.height;
  result.steps = plan.schedule.steps();
  result.guidance = plan.guidance;
  result.memory = memory.report();
  result.warnings = checkpoint_.warnings;
  result.warnings.insert(result.warnings.end(), plan.warnings.begin(), plan.warnings.end());

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
  if (!unknown.empty()) encode(unknown);
  const auto prompts = this->prompts(request, plan);
  streamed_text_encoder_.reset();
  if (memory.drop_text_encoder) text_encoder_.reset();
  mx::clear_cache();
  report(progress, {.stage = Stage::encode_text, .done = 1});
  lap(Stage::encode_text);

  if (!memory.load_at_once) load({transformer}, {});
  const auto latents = denoise(plan, prompts, starting_noise(request, plan), result, progress);
  expect_finite(latents);
  if (request.save_latents)
    write_tensor(*request.save_latents, "latents", mx::astype(latents, mx::float32),
                 request.overwrite);
  if (memory.drop_transformer) {
    transformer_.reset();
    mx::clear_cache();
  }
  lap(Stage::denoise);

  if (!memory.load_at_once) load({vae}, {});
  report(progress, {.stage = Stage::decode});
  result.images = decode(latents, plan, memory.decode);
  report(progress, {.stage = Stage::decode, .done = 1});
  lap(Stage::decode);
  result.peak_memory_bytes = peak_memory_bytes();
  return result;
}

}  // namespace klein::flux2
