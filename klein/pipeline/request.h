#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "klein/core/options.h"
#include "klein/core/progress.h"
#include "klein/io/image.h"
#include "klein/io/picture.h"
#include "klein/pipeline/canvas.h"
#include "klein/pipeline/expand.h"

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

/// A LoRA, and how strong it is.
struct LoraChoice {
  /// A file, a name in LORA_LIBRARY_PATH, "org/repo" or "org/repo:FILE" of the hub.
  std::string name;
  double scale = 1.0;  ///< 0: nothing is added. May be negative.
};

/// Whether reference pictures are read once, for all steps.
enum class KvCaching {
  automatic,  ///< With a model that was trained for it.
  on,         ///< Faster, and with any other model not the same.
  off,        ///< References see picture and prompt, and are read again in every step.
};

/// A picture to begin from in place of noise alone.
struct InitImage {
  io::Picture picture;

  /// The share of steps that is skipped, in [0, 1]: the higher, the nearer to the picture. Above 0
  /// one step at least; at 1 all of them. 0 takes nothing but the picture's size.
  double strength = 0.4;
};

/// A picture of which a part is painted anew, or which is made larger.
struct InpaintRequest {
  io::Picture picture;
  std::optional<io::Picture> mask = {};  ///< White is painted anew. Unset: what is transparent.
  double strength = 0.8;  ///< In (0, 1]: the share of steps that is done. At 1 from noise alone.
  std::optional<io::Picture> reference = {};  ///< Something else to look at.
  CanvasOptions canvas = {};
  std::optional<Margins> expand = {};     ///< In place of a mask: paints around the picture.
  std::optional<Preserve> preserve = {};  ///< Unset: blend for an expanded picture, else none.
};

/// How a picture on its way is shown.
enum class PreviewKind {
  latents,  ///< An eighth of its size, by a linear map from the latents: costs nearly nothing.
  decoded,  ///< As it would be if the work ended now, by the autoencoder.
};

/// What the picture would be if the remaining steps changed nothing any more.
struct Preview {
  int step = 0;   ///< Steps done, from 1.
  int steps = 0;  ///< Of all.
  std::vector<io::Image> images;
};

/// Called on the thread that works.
using PreviewCallback = std::function<void(const Preview&)>;

/// Pictures that a request draws together, at most.
constexpr int kMostPicturesAtOnce = 64;

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

  /// Several pictures in place of that of `seed`, denoised together, one for each: in float32 those
  /// that the same seeds give one by one, in bfloat16 but for roundings.
  std::vector<std::uint64_t> seeds = {};
  Rng rng = Rng::torch;

  /// Noise levels before the resolution-dependent shift, in (0, 1]; empty: evenly spaced.
  std::vector<float> sigmas = {};

  VaeTiling vae_tiling = VaeTiling::automatic;

  /// Put on the model for this request alone, whose weights stay as they are; they add up, also the
  /// same one twice.
  std::vector<LoraChoice> loras = {};

  /// Pictures that the prompt speaks of, in this order. Each keeps its own size up to 1024 x 1024
  /// pixels of area; the first one's is the result's where width and height are unset.
  std::vector<io::Picture> references = {};
  KvCaching kv_cache = KvCaching::automatic;

  // One of these at most; they exclude references.
  std::optional<InitImage> init_image = {};
  std::optional<InpaintRequest> inpaint = {};

  PreviewCallback preview = {};  ///< Asked for after every step.
  PreviewKind preview_kind = PreviewKind::latents;

  /// Starting noise instead of the seed's: a safetensors file with `latents` [B, C, H/16, W/16].
  std::optional<std::filesystem::path> latents = {};

  /// Prompt embeddings instead of the prompt: `prompt_embeds` [1 or B, tokens, features].
  std::optional<std::filesystem::path> prompt_embeds = {};

  /// Where to keep the final latents, packed [B, L, C] float32, as they are before the decoder's
  /// statistics are undone: one file for all pictures, or one [1, L, C] for each.
  std::vector<std::filesystem::path> save_latents = {};

  /// Where to keep the prompt embeddings, in the precision they were computed in; as save_latents.
  std::vector<std::filesystem::path> save_prompt_embeds = {};

  bool overwrite = false;  ///< Whether the files above may replace others.

  NextRequest next = NextRequest::any;

  /// Throws Error(usage) for the first value that no model could use: sides below 16 or together
  /// above 4096 x 4096 pixels, steps outside 1 to 1000, a guidance that is not a number at least 0,
  /// a sigma outside (0, 1], a LoRA's scale that is no finite number, a strength outside [0, 1],
  /// pictures for several tasks at once, more than 64 seeds, several of them beside latents.
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

/// A LoRA that took part in a picture.
struct UsedLora {
  std::string name;            ///< As it was asked for.
  std::filesystem::path file;  ///< What that name stood for.
  double scale = 1.0;
  bool is_merged = false;  ///< Whether it is part of the weights.
};

/// What came of a request.
struct GenerateResult {
  std::vector<io::Image> images;  ///< One, or as many as the request has seeds or latents.
  int width = 0;                  ///< Pixels.
  int height = 0;
  int steps = 0;  ///< Done: img2img and inpainting skip some.
  double guidance = 1.0;
  std::map<Stage, double> seconds;      ///< Wall-clock time of each stage that ran.
  std::vector<double> step_seconds;     ///< One entry a denoising step.
  std::uint64_t peak_memory_bytes = 0;  ///< Of the process so far; on a GPU, of its memory.
  MemoryReport memory;
  std::vector<UsedLora> loras;        ///< Merged ones before those of the request.
  int loaded_parts = 0;               ///< Networks whose weights were not there yet.
  std::vector<std::string> warnings;  ///< Sentences for the person who asked.
};

}  // namespace klein
