#pragma once

#include <filesystem>
#include <future>
#include <list>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "klein/core/progress.h"
#include "klein/models/flux2/checkpoint.h"
#include "klein/models/flux2/latent_rgb.h"
#include "klein/models/flux2/memory_plan.h"
#include "klein/models/flux2/pictures.h"
#include "klein/models/flux2/request_plan.h"
#include "klein/models/flux2/run_time_loras.h"
#include "klein/models/flux2/streaming.h"
#include "klein/models/flux2/transformer.h"
#include "klein/models/flux2/vae.h"
#include "klein/models/qwen3/text_encoder.h"
#include "klein/pipeline/request.h"
#include "klein/tensor/mlx.h"
#include "klein/tokenizer/tokenizer.h"

namespace klein::flux2 {

/// FLUX.2 Klein from prompt to picture: tokenize, encode, draw noise, denoise, decode.
///
/// One loop serves every task. What a task is, is what the loop begins from, what the transformer
/// sees beside the prompt, and what is brought back after every step (Conditioning).
///
/// Thread   one; the one that made it
/// Source   diffusers pipeline_flux2_klein.py, Flux2KleinPipeline
class Pipeline {
 public:
  /// Weights are loaded when they are first needed.
  Pipeline(Checkpoint checkpoint, const LoadOptions& options, const MemoryOptions& memory = {});

  const Checkpoint& checkpoint() const { return checkpoint_; }

  /// Makes the picture or pictures of one request.
  ///
  /// Errors   Error(usage) for a request that this model cannot serve; Error(cancelled) when
  ///          `progress` says so; as Checkpoint::load_* on first use; Error(format), Error(shape)
  ///          and Error(io) for the files that the request names; Error(memory) for a picture that
  ///          cannot fit
  GenerateResult generate(const GenerateRequest& request, const ProgressCallback& progress);

 private:
  struct Prompts {
    mx::array positive;                 ///< [B, T, features]
    std::optional<mx::array> negative;  ///< Set when guidance needs it.
  };

  /// What the pictures of a request do to the loop.
  struct Conditioning {
    mx::array latents;  ///< Where it begins, [B, L, C].
    ReferenceTokens references;
    std::optional<HeldTokens> held;
  };

  /// The reference pictures of the last request: the next seed needs them again.
  struct KeptReferences {
    std::vector<io::Image> pictures;
    ReferenceTokens tokens;
    std::optional<KvCache> cache;
  };

  /// Numbers of torch's generator for every picture; none where they come from elsewhere.
  using DrawnNoise = std::future<std::vector<std::vector<float>>>;

  /// The timesteps of the last request.
  struct KeptTimes {
    std::vector<float> timesteps;
    int batch = 0;
    std::vector<mx::array> arrays;  ///< [batch] each
  };

  MemoryPlan plan_memory(const GenerateRequest& request, const RequestPlan& plan) const;
  void put_on(const std::vector<LoraChoice>& loras);
  std::string embedding_key(const std::string& prompt) const;
  std::vector<std::string> prompts_to_encode(const GenerateRequest& request,
                                             const RequestPlan& plan) const;
  void load_text(const MemoryPlan& memory);
  void load_transformer(const MemoryPlan& memory);
  void load_vae();
  void encode(const std::vector<std::string>& prompts);
  const mx::array& embedding(const std::string& prompt);
  Prompts prompts(const GenerateRequest& request, const RequestPlan& plan);
  DrawnNoise draw_noise(const GenerateRequest& request, const RequestPlan& plan) const;
  mx::array noise(const GenerateRequest& request, const RequestPlan& plan, DrawnNoise drawn) const;
  Conditioning condition(const RequestPlan& plan, const mx::array& noise, const VaePlan& how);
  const ReferenceTokens& encode_references(const std::vector<io::Image>& pictures,
                                           const VaePlan& how);
  const KvCache* read_references(const RequestPlan& plan, const ReferenceTokens& references);
  const std::vector<mx::array>& times_of(const RequestPlan& plan);
  mx::array denoise(const GenerateRequest& request, const RequestPlan& plan, const Prompts& prompts,
                    const Conditioning& conditioning, const VaePlan& how, GenerateResult& result,
                    const ProgressCallback& progress);
  void show(const GenerateRequest& request, const RequestPlan& plan, const mx::array& estimate,
            int step, const VaePlan& how);
  const LatentRgb& latent_rgb();
  std::vector<io::Image> decode(const mx::array& latents, const RequestPlan& plan,
                                const VaePlan& how) const;
  std::vector<io::Image> put_back(const GenerateRequest& request, const RequestPlan& plan,
                                  std::vector<io::Image> images) const;
  GenerateResult empty_result(const RequestPlan& plan, const MemoryPlan& memory) const;

  Checkpoint checkpoint_;
  LoadOptions options_;
  MemoryOptions memory_;
  ModelBytes bytes_;
  std::optional<tokenizer::Tokenizer> tokenizer_;
  // Only while they are needed, the text encoder as a whole or streamed.
  std::optional<qwen3::TextEncoder> text_encoder_;
  std::optional<StreamedTextEncoder> streamed_text_encoder_;
  std::optional<StreamedTransformer> transformer_;
  std::optional<Vae> vae_;
  std::optional<KeptReferences> references_;
  std::optional<LatentRgb> latent_rgb_;
  KeptTimes times_;
  RunTimeLoras loras_;
  Adapters adapters_;  ///< Of the last request.
  int loaded_parts_ = 0;
  /// Of the last prompts by embedding_key(), newest first.
  std::list<std::pair<std::string, mx::array>> embeddings_;
};

}  // namespace klein::flux2
