#include "klein/pipeline/request.h"

#include <cmath>

#include <fmt/format.h>

#include "klein/core/error.h"
#include "klein/sampling/flow_match.h"

namespace klein {
namespace {

constexpr int kMaxSide = 4096 * 4096 / 16;
constexpr long long kMaxPixels = 4096LL * 4096;

[[noreturn]] void refuse(const std::string& message, std::string hint = {}) {
  throw Error(ErrorKind::usage, message, std::move(hint));
}

void check_side(const char* name, const std::optional<int>& side) {
  if (side && (*side < 16 || *side > kMaxSide))
    refuse(fmt::format("expected a {} of 16 to {} pixels, got {}", name, kMaxSide, *side));
}

void check_pictures(const GenerateRequest& request) {
  const int tasks = (request.references.empty() ? 0 : 1) + (request.init_image ? 1 : 0) +
                    (request.inpaint ? 1 : 0);
  if (tasks > 1)
    refuse("expected reference pictures, a picture to begin from or one to inpaint, got several",
           "Ask for one after the other.");
  if (request.init_image &&
      !(request.init_image->strength >= 0.0 && request.init_image->strength <= 1.0))
    refuse(fmt::format("expected a strength of 0 to 1, got {}", request.init_image->strength));
  if (request.inpaint && !(request.inpaint->strength > 0.0 && request.inpaint->strength <= 1.0))
    refuse(fmt::format("expected a strength above 0 and at most 1, got {}",
                       request.inpaint->strength));
}

}  // namespace

void GenerateRequest::validate() const {
  check_side("width", width);
  check_side("height", height);
  if (width && height && static_cast<long long>(*width) * *height > kMaxPixels)
    refuse(fmt::format("expected at most 4096 x 4096 pixels in all, got {} x {}", *width, *height));
  if (steps && (*steps < 1 || *steps > sampling::kMaxSteps))
    refuse(fmt::format("expected 1 to {} steps, got {}", sampling::kMaxSteps, *steps));
  if (guidance && !(std::isfinite(*guidance) && *guidance >= 0.0))
    refuse(fmt::format("expected a guidance of at least 0, got {}", *guidance));
  if (sigmas.size() > sampling::kMaxSteps)
    refuse(fmt::format("expected at most {} sigmas, got {}", sampling::kMaxSteps, sigmas.size()));
  for (const float sigma : sigmas)
    if (!(sigma > 0.0f && sigma <= 1.0f))
      refuse(fmt::format("expected every sigma above 0 and at most 1, got {}", sigma));
  for (const auto& lora : loras)
    if (!std::isfinite(lora.scale))
      refuse(fmt::format("expected a finite scale for a LoRA, got {}: {}", lora.scale, lora.name));
  if (seeds.size() > static_cast<std::size_t>(kMostPicturesAtOnce))
    refuse(fmt::format("expected at most {} pictures at once, got {}", kMostPicturesAtOnce,
                       seeds.size()));
  if (seeds.size() > 1 && latents)
    refuse("expected several seeds or the latents to begin from, got both",
           "A file of latents holds its own batch.");
  check_pictures(*this);
}

}  // namespace klein
