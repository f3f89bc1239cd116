// What the denoising loop begins from and sees beside the prompt: the part of Pipeline that makes a
// task of a request's pictures.

#include <cstddef>
#include <cstdint>
#include <future>

#include "klein/models/flux2/latents.h"
#include "klein/models/flux2/pipeline.h"
#include "klein/ops/host_memory.h"
#include "klein/sampling/flow_match.h"
#include "klein/tensor/random.h"

namespace klein::flux2 {

/// Draws on a thread of its own, while the prompt is encoded.
Pipeline::DrawnNoise Pipeline::draw_noise(const GenerateRequest& request,
                                          const RequestPlan& plan) const {
  const bool draws = !plan.latents && request.rng == Rng::torch;
  const auto count = static_cast<std::size_t>(checkpoint_.transformer.in_channels) *
                     static_cast<std::size_t>(plan.rows * plan.columns);
  const auto draw = [count, seeds = draws ? plan.seeds : std::vector<std::uint64_t>()] {
    std::vector<std::vector<float>> rows;
    for (const auto seed : seeds) rows.push_back(torch_normal(count, seed));
    return rows;
  };
  return std::async(draws ? std::launch::async : std::launch::deferred, draw);
}

mx::array Pipeline::noise(const GenerateRequest& request, const RequestPlan& plan,
                          DrawnNoise drawn) const {
  if (plan.latents) return tokens_from_grid(mx::astype(*plan.latents, options_.dtype));
  const mx::Shape shape{1, checkpoint_.transformer.in_channels, plan.rows, plan.columns};
  std::vector<mx::array> rows;  // each as its seed gives it alone
  for (const auto& values : drawn.get()) rows.push_back(ops::array_of(values, shape));
  if (request.rng == Rng::mlx)
    for (const auto seed : plan.seeds) rows.push_back(mlx_randn(shape, seed));
  const auto noise = rows.size() == 1 ? rows.front() : mx::concatenate(rows, 0);
  return tokens_from_grid(mx::astype(noise, options_.dtype));
}

/// The references in tokens; those of the request before serve again.
const ReferenceTokens& Pipeline::encode_references(const std::vector<io::Image>& pictures,
                                                   const VaePlan& how) {
  if (references_ && references_->pictures == pictures) return references_->tokens;
  references_.reset();
  const int side = 2 * checkpoint_.vae.scale();
  ReferenceTokens tokens;
  for (std::size_t i = 0; i < pictures.size(); ++i) {
    const auto& picture = pictures[i];
    append(tokens, picture_tokens(*vae_, picture, options_.dtype, how), picture.height / side,
           picture.width / side, static_cast<int>(i));
    mx::eval(tokens.tokens);  // memory for one picture only
  }
  references_.emplace(KeptReferences{pictures, std::move(tokens), std::nullopt});
  return references_->tokens;
}

Pipeline::Conditioning Pipeline::condition(const RequestPlan& plan, const mx::array& noise,
                                           const VaePlan& how) {
  Conditioning conditioning{noise, {}, std::nullopt};
  auto pictures = plan.references;
  if (plan.canvas) pictures.insert(pictures.begin(), *plan.picture);
  if (!pictures.empty()) conditioning.references = encode_references(pictures, how);
  if (!plan.picture) return conditioning;

  const int length = plan.rows * plan.columns;
  const auto& tokens = conditioning.references.tokens;
  const auto clean = plan.canvas ? mx::slice(tokens, {0, 0, 0}, {1, length, tokens.shape(2)})
                                 : picture_tokens(*vae_, *plan.picture, options_.dtype, how);
  const float sigma = plan.schedule.sigmas[static_cast<std::size_t>(plan.first_step)];
  if (plan.canvas)
    conditioning.held = HeldTokens{
        clean, noise, mask_tokens(plan.canvas->mask, 2 * checkpoint_.vae.scale(), options_.dtype)};
  // Latents that inpainting is given are its beginning as well as its noise, as in diffusers.
  if (!(plan.canvas && plan.latents))
    conditioning.latents = sampling::scale_noise(clean, sigma, noise);
  mx::eval(conditioning.latents);
  return conditioning;
}

/// What the blocks keep of the references, or nothing where they are read in every step.
const KvCache* Pipeline::read_references(const RequestPlan& plan,
                                         const ReferenceTokens& references) {
  if (!plan.kv_cache || references.ids.empty()) return nullptr;
  if (!references_->cache)
    references_->cache =
        transformer_->read_references(references.tokens, transformer_->rope(0, references.ids));
  return &*references_->cache;
}

}  // namespace klein::flux2
