#pragma once

#include <filesystem>
#include <functional>
#include <vector>

#include "klein/models/flux2/config.h"
#include "klein/models/flux2/transformer.h"
#include "klein/models/flux2/vae.h"
#include "klein/models/qwen3/config.h"
#include "klein/models/qwen3/text_encoder.h"
#include "klein/sampling/flow_match.h"
#include "klein/tensor/mlx.h"

namespace klein::flux2 {

/// A model folder in the layout of diffusers: what its JSON files say. Weights are read by the
/// load_* functions.
struct Checkpoint {
  std::filesystem::path folder;
  bool is_distilled = false;  ///< model_index.json; base models lack the key.
  std::vector<int> text_encoder_out_layers = {9, 18, 27};
  int max_sequence_length = 512;  ///< Tokens a prompt is padded or cut to, template included.
  sampling::SchedulerConfig scheduler;
  TransformerConfig transformer;
  qwen3::TextEncoderConfig text_encoder;
  VaeConfig vae;

  int default_steps() const { return is_distilled ? 4 : 50; }
  double default_guidance() const { return is_distilled ? 1.0 : 4.0; }

  /// Reads model_index.json and the config of every part.
  ///
  /// Errors   Error(not_found) when the folder or one of the files is not there; Error(format),
  ///          Error(unsupported) and Error(shape) when they describe no FLUX.2 Klein model
  static Checkpoint read(const std::filesystem::path& folder);

  /// Builds a part and fills it from its weights, to compute in `dtype`.
  ///
  /// Errors   Error(not_found) for missing files; Error(format) for broken ones; Error(shape)
  /// naming
  ///          every missing, unexpected and misshapen tensor
  Transformer load_transformer(mx::Dtype dtype) const;
  qwen3::TextEncoder load_text_encoder(mx::Dtype dtype) const;
  Vae load_vae(mx::Dtype dtype) const;
};

}  // namespace klein::flux2
