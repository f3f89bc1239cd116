#pragma once

#include <filesystem>
#include <list>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "klein/core/progress.h"
#include "klein/models/flux2/checkpoint.h"
#include "klein/models/flux2/memory_plan.h"
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
  struct Plan;
  struct Prompts {
    mx::array positive;                 ///< [B, T, features]
    std::optional<mx::array> negative;  ///< Set when guidance needs it.
  };

  Plan plan(const GenerateRequest& request) const;
  MemoryPlan plan_memory(const GenerateRequest& request, const Plan& plan) const;
  std::vector<std::string> prompts_to_encode(const GenerateRequest& request,
                                             const Plan& plan) const;
  void load_text(const MemoryPlan& memory);
  void load_transformer(const MemoryPlan& memory);
  void load_vae();
  void encode(const std::vector<std::string>& prompts);
  const mx::array& embedding(const std::string& prompt);
  Prompts prompts(const GenerateRequest& request, const Plan& plan);
  mx::array starting_noise(const GenerateRequest& request, const Plan& plan) const;
  mx::array denoise(const Plan& plan, const Prompts& prompts, mx::array latents,
                    GenerateResult& result, const ProgressCallback& progress) const;
  std::vector<io::Image> decode(const mx::array& latents, const Plan& plan,
                                const VaePlan& how) const;

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
  std::list<std::pair<std::string, mx::array>> embeddings_;  ///< Of the last prompts, newest first.
};

}  // namespace klein::flux2
