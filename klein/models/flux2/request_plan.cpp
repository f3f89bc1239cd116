#include "klein/models/flux2/request_plan.h"

#include <algorithm>

#include <fmt/format.h>

#include "klein/core/error.h"
#include "klein/pipeline/reference_image.h"
#include "klein/pipeline/tensor_files.h"
#include "klein/tensor/check.h"

namespace klein::flux2 {
namespace {

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

Canvas canvas_of(const InpaintRequest& request) {
  const char* const name = "the picture";
  if (request.expand) {
    if (request.mask || request.canvas.padding_mask_crop)
      throw Error(ErrorKind::usage,
                  "expected a picture to be expanded or painted behind a mask, got both");
    return make_expanded_canvas(request.picture, *request.expand, name);
  }
  if (request.mask)
    return make_canvas({request.picture, io::to_grey(*request.mask)}, request.canvas);
  return make_canvas(mask_transparent(request.picture, name), request.canvas);
}

/// Sides as far as they are known.
struct Sides {
  std::optional<int> width, height;
};

/// Fills the plan piece by piece, in an order in which each needs only those before it.
class Planner {
 public:
  Planner(const GenerateRequest& request, const Checkpoint& checkpoint)
      : request_(request), checkpoint_(checkpoint), side_(2 * checkpoint.vae.scale()) {}

  RequestPlan operator()() {
    request_.validate();
    settle_guidance();
    settle_references();
    settle_size();
    settle_batch();
    settle_picture();
    settle_schedule();
    plan_.needs_vae_early = plan_.encodes_pictures() || request_.preview;
    return std::move(plan_);
  }

 private:
  void settle_guidance() {
    if (checkpoint_.is_distilled()) expect_no_guidance(request_);
    plan_.guidance = request_.guidance.value_or(checkpoint_.default_guidance());
    plan_.classifier_free = plan_.guidance > 1.0 && !checkpoint_.is_distilled();
    plan_.kv_cache =
        request_.kv_cache == KvCaching::on ||
        (request_.kv_cache == KvCaching::automatic && checkpoint_.variant == Variant::kv);
  }

  void settle_references() {
    for (std::size_t i = 0; i < request_.references.size(); ++i)
      plan_.references.push_back(
          prepare_reference(request_.references[i], fmt::format("reference {}", i + 1)));
    if (!request_.inpaint) return;
    const auto& inpaint = *request_.inpaint;
    if (inpaint.reference)
      plan_.references.push_back(prepare_reference(*inpaint.reference, "the reference"));
    plan_.canvas = canvas_of(inpaint);
  }

  /// Width and height as far as the request, its latents or its pictures say.
  Sides wished_size() {
    Sides size{request_.width, request_.height};
    if (request_.latents) {
      plan_.latents = read_tensor(*request_.latents, "latents");
      const auto& shape = plan_.latents->shape();
      if (shape.size() != 4 || shape[1] != checkpoint_.transformer.in_channels || shape[0] < 1 ||
          shape[2] < 1 || shape[3] < 1)
        throw Error(ErrorKind::shape,
                    fmt::format("expected latents [B, {}, H/{}, W/{}], got {}: {}",
                                checkpoint_.transformer.in_channels, side_, side_,
                                describe(*plan_.latents), request_.latents->string()));
    }
    if (plan_.canvas) {
      const auto& picture = plan_.canvas->picture;
      return {picture.width, picture.height};
    }
    if (request_.init_image) {
      const auto& picture = request_.init_image->picture;
      return size_like(picture.width, picture.height, size);
    }
    if (plan_.latents) {
      if (!size.height) size.height = plan_.latents->shape(2) * side_;
      if (!size.width) size.width = plan_.latents->shape(3) * side_;
    }
    if (!plan_.references.empty()) {
      if (!size.width) size.width = plan_.references.front().width;
      if (!size.height) size.height = plan_.references.front().height;
    }
    return size;
  }

  /// A picture's own proportions, up to the area of 1024 x 1024 pixels, where not both sides are
  /// asked for.
  Sides size_like(int width, int height, Sides asked) const {
    const double proportion = static_cast<double>(width) / height;
    const auto at_least_one = [&](double length) {
      return std::max(side_, static_cast<int>(length) / side_ * side_);
    };
    if (asked.width && asked.height) return asked;
    if (asked.width) return {asked.width, at_least_one(*asked.width / proportion)};
    if (asked.height) return {at_least_one(*asked.height * proportion), asked.height};
    const auto size = capped_size(width, height);
    return {at_least_one(size.width), at_least_one(size.height)};
  }

  int settled_side(const char* name, const std::optional<int>& asked) {
    const int wanted = asked.value_or(checkpoint_.vae.sample_size);
    const int floored = wanted / side_ * side_;
    if (floored < 1)
      throw Error(ErrorKind::usage,
                  fmt::format("expected a {} of at least {} pixels, got {}", name, side_, wanted));
    if (floored != wanted)
      plan_.warnings.push_back(
          fmt::format("{} {} is not a multiple of {}, using {}", name, wanted, side_, floored));
    return floored;
  }

  void settle_size() {
    const auto size = wished_size();
    plan_.width = settled_side("width", size.width);
    plan_.height = settled_side("height", size.height);
    // Once more with both sides known: one of them may be the model's own, or a file's.
    GenerateRequest{.width = plan_.width, .height = plan_.height}.validate();
    plan_.rows = plan_.height / side_;
    plan_.columns = plan_.width / side_;
    if (plan_.latents &&
        (plan_.latents->shape(2) != plan_.rows || plan_.latents->shape(3) != plan_.columns))
      throw Error(ErrorKind::shape,
                  fmt::format("expected latents of {} x {} tokens for {} x {} pixels, got {}: {}",
                              plan_.rows, plan_.columns, plan_.width, plan_.height,
                              describe(*plan_.latents), request_.latents->string()));
  }

  void settle_batch() {
    plan_.seeds = request_.seeds;
    if (plan_.seeds.empty()) plan_.seeds.push_back(request_.seed);
    for (const auto* files : {&request_.save_latents, &request_.save_prompt_embeds})
      if (files->size() > 1 && files->size() != static_cast<std::size_t>(plan_.batch()))
        throw Error(ErrorKind::usage,
                    fmt::format("expected one file of tensors, or one for each picture of {}, got "
                                "{}",
                                plan_.batch(), files->size()));
  }

  void settle_picture() {
    if (plan_.canvas) plan_.picture = plan_.canvas->picture;
    if (request_.init_image && request_.init_image->strength > 0.0)
      plan_.picture = cover(request_.init_image->picture, plan_.width, plan_.height);
  }

  void settle_schedule() {
    const int steps =
        request_.steps.value_or(request_.sigmas.empty() ? checkpoint_.default_steps()
                                                        : static_cast<int>(request_.sigmas.size()));
    plan_.schedule = sampling::make_schedule(
        checkpoint_.scheduler,
        request_.sigmas.empty() ? sampling::linear_sigmas(steps) : request_.sigmas,
        sampling::empirical_mu(plan_.rows * plan_.columns, steps));
    const int all = plan_.schedule.steps();
    if (request_.init_image && plan_.picture)  // mflux's rule
      plan_.first_step = std::max(1, static_cast<int>(all * request_.init_image->strength));
    if (request_.inpaint) {  // diffusers' rule
      plan_.first_step =
          static_cast<int>(all - std::min(all * request_.inpaint->strength, 1.0 * all));
      if (plan_.first_step >= all)
        throw Error(ErrorKind::usage,
                    fmt::format("expected a strength that leaves at least one of {} steps, got {}",
                                all, request_.inpaint->strength));
    }
  }

  const GenerateRequest& request_;
  const Checkpoint& checkpoint_;
  const int side_;  ///< Of a token, in pixels.
  RequestPlan plan_;
};

}  // namespace

int RequestPlan::reference_tokens(int pixels_per_token) const {
  int tokens = canvas ? rows * columns : 0;
  for (const auto& reference : references)
    tokens += (reference.width / pixels_per_token) * (reference.height / pixels_per_token);
  return tokens;
}

RequestPlan plan_request(const GenerateRequest& request, const Checkpoint& checkpoint) {
  return Planner(request, checkpoint)();
}

}  // namespace klein::flux2
