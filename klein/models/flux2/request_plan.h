#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "klein/io/image.h"
#include "klein/models/flux2/checkpoint.h"
#include "klein/pipeline/canvas.h"
#include "klein/pipeline/request.h"
#include "klein/sampling/flow_match.h"
#include "klein/tensor/mlx.h"

namespace klein::flux2 {

/// Everything about a request that is settled before the first number is computed.
struct RequestPlan {
  int width = 0, height = 0;  ///< Pixels.
  int rows = 0, columns = 0;  ///< Tokens.
  double guidance = 1.0;
  bool classifier_free = false;
  sampling::Schedule schedule;
  int first_step = 0;                ///< Steps before it are skipped, with a picture to begin from.
  std::vector<std::uint64_t> seeds;  ///< Of the pictures, which are drawn together.
  std::optional<mx::array> latents;  ///< From the request's file, [B, C, rows, columns].

  std::vector<io::Image> references;  ///< Sides are multiples of a token's.
  std::optional<io::Image> picture;   ///< To begin from, of the result's size.
  std::optional<Canvas> canvas;       ///< Of inpainting; its picture is `picture`.
  bool kv_cache = false;              ///< References are read once, by themselves.
  bool needs_vae_early = false;  ///< Before the last step: for pictures to encode, or previews.
  std::vector<std::string> warnings;

  int batch() const { return latents ? latents->shape(0) : static_cast<int>(seeds.size()); }
  bool encodes_pictures() const { return !references.empty() || picture; }
  int steps() const { return schedule.steps() - first_step; }

  /// All references, and the picture that is inpainted, in tokens.
  int reference_tokens(int pixels_per_token) const;
};

/// Settles a request; every refusal that needs no weights happens here.
///
/// Errors   Error(usage) for a request that this model cannot serve; Error(format), Error(shape)
///          and Error(io) for its file of latents; Error(usage), Error(shape) for its pictures
RequestPlan plan_request(const GenerateRequest& request, const Checkpoint& checkpoint);

}  // namespace klein::flux2
