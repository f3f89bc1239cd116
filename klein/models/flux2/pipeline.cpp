#include "klein/models/flux2/pipeline.h"

#include <algorithm>
#include <cmath>

#include <fmt/format.h>

#include "klein/core/error.h"
#include "klein/core/stopwatch.h"
#include "klein/models/flux2/latents.h"
#include "klein/models/flux2/vae_tiling.h"
#include "klein/pipeline/tensor_files.h"
#include "klein/sampling/flow_match.h"
#include "klein/sampling/guidance.h"
#include "klein/tensor/check.h"
#include "klein/tensor/device.h"
#include "klein/tensor/random.h"
#include "klein/tokenizer/prompt_tokens.h"

namespace klein::flux2 {
namespace {

constexpr std::size_t kKeptEmbeddings = 8;  // a few MB each at most; saves a pass a seed

void report(const ProgressCallback& progress, Stage stage, int done, int total) {
  if (progress && !progress({.stage = stage, .done = done, .total = total}))
    throw Error(ErrorKind::cancelled, "stopped on request");
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
  VaeTiling vae_tiling = VaeTiling::automatic;
  std::vector<std::string> warnings;
};

Pipeline::Pipeline(Checkpoint checkpoint, const LoadOptions& options)
    : checkpoint_(std::move(checkpoint)), options_(options) {
  for (auto& warning : lora_warnings(checkpoint_, options_))
    checkpoint_.warnings.push_back(std::move(warning));
}

Pipeline::Plan Pipeline::plan(const GenerateRequest& request) const {
  request.validate();
  Plan plan;
  plan.vae_tiling = request.vae_tiling;
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

void Pipeline::load(const GenerateRequest& request, const ProgressCallback& progress) {
  constexpr int parts = 4;
  int done = 0;
  const auto next = [&] { report(progress, Stage::load, done++, parts); };
  const bool needs_text = !request.prompt_embeds || !checkpoint_.is_distilled();
  next();
  if (needs_text && !tokenizer_) tokenizer_ = tokenizer::Tokenizer::load(checkpoint_.tokenizer);
  next();
  if (needs_text && !text_encoder_) text_encoder_ = checkpoint_.load_text_encoder(options_);
  next();
  if (!transformer_) transformer_ = checkpoint_.load_transformer(options_);
  next();
  if (!vae_) vae_ = checkpoint_.load_vae(options_);
  next();
}

mx::array Pipeline::encode(const std::string& prompt) {
  const auto known = std::ranges::find(embeddings_, prompt, [](const auto& e) { return e.first; });
  if (known != embeddings_.end()) {
    embeddings_.splice(embeddings_.begin(), embeddings_, known);
  } else {
    const auto tokens =
        tokenizer::encode_prompt(*tokenizer_, prompt, checkpoint_.max_sequence_length);
    const qwen3::TokenRow row{.ids = tokens.ids, .length = tokens.length};
    auto embeds = (*text_encoder_)({&row, 1});
    mx::eval(embeds);
    embeddings_.emplace_front(prompt, std::move(embeds));
    if (embeddings_.size() > kKeptEmbeddings) embeddings_.pop_back();
  }
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
      request.prompt_embeds ? given(*request.prompt_embeds) : encode(request.prompt);
  if (request.save_prompt_embeds)
    write_tensor(*request.save_prompt_embeds, "prompt_embeds", positive, request.overwrite);
  Prompts prompts{for_batch(positive, batch), std::nullopt};
  if (plan.classifier_free)
    prompts.negative = for_batch(encode(request.negative_prompt.value_or("")), batch);
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
  const auto rope = transformer_->rope(prompts.positive.shape(1), ids);
  const auto negative_rope =
      prompts.negative ? transformer_->rope(prompts.negative->shape(1), ids) : rope;
  const auto& [sigmas, timesteps] = plan.schedule;

  for (std::size_t i = 0; i < timesteps.size(); ++i) {
    report(progress, Stage::denoise, static_cast<int>(i), plan.schedule.steps());
    const Stopwatch watch;
    // Rounded to the dtype of the latents before the division, as the reference does.
    const auto t = mx::full({latents.shape(0)}, timesteps[i], options_.dtype) /
                   mx::array(1000.0f, options_.dtype);
    auto velocity = (*transformer_)(latents, prompts.positive, t, rope);
    if (prompts.negative)
      velocity =
          sampling::guide(velocity, (*transformer_)(latents, *prompts.negative, t, negative_rope),
                          static_cast<float>(plan.guidance));
    latents = sampling::euler_step(latents, velocity, sigmas[i], sigmas[i + 1]);
    mx::eval(latents);
    result.step_seconds.push_back(watch.seconds());
  }
  report(progress, Stage::denoise, plan.schedule.steps(), plan.schedule.steps());
  return latents;
}

std::vector<io::Image> Pipeline::decode(const mx::array& latents, const Plan& plan) const {
  const auto grid = unpack_latents(vae_->denormalize(latents), plan.rows, plan.columns);
  const auto vae_plan = plan_decode(checkpoint_.vae, plan.vae_tiling, grid.shape(1), grid.shape(2),
                                    options_.dtype, available_memory_bytes());
  std::vector<io::Image> images;
  for (int b = 0; b < grid.shape(0); ++b) {  // one at a time: memory for one picture only
    const auto pixels = flux2::decode(
        *vae_, mx::slice(grid, {b, 0, 0, 0}, {b + 1, grid.shape(1), grid.shape(2), grid.shape(3)}),
        vae_plan);
    images.push_back(to_image(pixels));
  }
  return images;
}

GenerateResult Pipeline::generate(const GenerateRequest& request,
                                  const ProgressCallback& progress) {
  const auto plan = this->plan(request);
  GenerateResult result;
  result.width = plan.width;
  result.height = plan.height;
  result.steps = plan.schedule.steps();
  result.guidance = plan.guidance;
  result.warnings = checkpoint_.warnings;
  result.warnings.insert(result.warnings.end(), plan.warnings.begin(), plan.warnings.end());

  Stopwatch watch;
  load(request, progress);
  result.seconds[Stage::load] = watch.restart();

  report(progress, Stage::encode_text, 0, 1);
  const auto prompts = this->prompts(request, plan);
  report(progress, Stage::encode_text, 1, 1);
  result.seconds[Stage::encode_text] = watch.restart();

  const auto latents = denoise(plan, prompts, starting_noise(request, plan), result, progress);
  expect_finite(latents);
  if (request.save_latents)
    write_tensor(*request.save_latents, "latents", mx::astype(latents, mx::float32),
                 request.overwrite);
  result.seconds[Stage::denoise] = watch.restart();

  report(progress, Stage::decode, 0, 1);
  result.images = decode(latents, plan);
  report(progress, Stage::decode, 1, 1);
  result.seconds[Stage::decode] = watch.restart();
  result.peak_memory_bytes = peak_memory_bytes();
  return result;
}

}  // namespace klein::flux2
