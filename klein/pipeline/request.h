#pragma once

#include <cstdint>
#include <filesystem>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "klein/core/options.h"
#include "klein/core/progress.h"
#include "klein/io/image.h"

namespace klein {

/// What the same model will be asked for next, as far as the caller knows: what it will not need
/// then leaves the memory early.
enum class NextRequest {
  any,           ///< Anything, or unknown.
  same_prompts,  ///< Another picture of these prompts.
  none,
};

/// How the autoencoder goes over a picture that is large for the memory at hand.
enum class VaeTiling {
  automatic,  ///< As a whole where it fits, else `exact`.
  off,        ///< As a whole.
  exact,      ///< In strips of rows with the statistics of the whole picture: the same picture.
  diffusers,  ///< In overlapping blended tiles as diffusers' enable_tiling(): shifts colours.
};

/// What to paint. Everything optional is decided by the model when it is left unset.
struct GenerateRequest {
  std::string prompt = {};
  std::optional<std::string> negative_prompt =
      {};  ///< Base models only; unset is the empty prompt.

  std::optional<int> width = {};  ///< Pixels; rounded down to a multiple of 16. Unset: the model's.
  std::optional<int> height = {};       ///< As width.
  std::optional<int> steps = {};        ///< Unset: 4 for a distilled model, 50 for a base model.
  std::optional<double> guidance = {};  ///< Unset: 1 for a distilled model, 4 for a base model.

  std::uint64_t seed = 0;
  Rng rng = Rng::torch;

  /// Noise levels before the resolution-dependent shift, in (0, 1]; empty: evenly spaced.
  std::vector<float> sigmas = {};

  VaeTiling vae_tiling = VaeTiling::automatic;

  /// Starting noise instead of the seed's: a safetensors file with `latents` [B, C, H/16, W/16].
  std::optional<std::filesystem::path> latents = {};

  /// Prompt embeddings instead of the prompt: `prompt_embeds` [1 or B, tokens, features].
  std::optional<std::filesystem::path> prompt_embeds = {};

  /// Where to keep the final latents, packed [B, L, C] float32, as they are before the decoder's
  /// statistics are undone.
  std::optional<std::filesystem::path> save_latents = {};

  /// Where to keep the prompt embeddings, in the precision they were computed in.
  std::optional<std::filesystem::path> save_prompt_embeds = {};

  bool overwrite = false;  ///< Whether the two files above may replace others.

  NextRequest next = NextRequest::any;

  /// Throws Error(usage) for the first value that no model could use: sides below 16 or together
  /// above 4096 x 4096 pixels, steps outside 1 to 1000, a guidance that is not a number at least 0,
  /// a sigma outside (0, 1].
  void validate() const;
};

/// How a request was made to fit into memory.
struct MemoryReport {
  std::string plan;  ///< "expected peak 5.9 GB of 8.0 GB, text encoder dropped after the prompt".
  bool is_notable = false;  ///< Whether it differs from what happens where memory abounds.
  std::uint64_t expected_peak_bytes = 0;
  std::uint64_t budget_bytes = 0;
  std::uint64_t streamed_bytes = 0;  ///< Read from disk in every step.
};

/// What came of a request.
struct GenerateResult {
  std::vector<io::Image> images;  ///< One, or as many as the latents of the request.
  int width = 0;                  ///< Pixels.
  int height = 0;
  int steps = 0;
  double guidance = 1.0;
  std::map<Stage, double> seconds;      ///< Wall-clock time of each stage that ran.
  std::vector<double> step_seconds;     ///< One entry a denoising step.
  std::uint64_t peak_memory_bytes = 0;  ///< Of the process so far; on a GPU, of its memory.
  MemoryReport memory;
  std::vector<std::string> warnings;  ///< Sentences for the person who asked.
};

}  // namespace klein
