#pragma once

#include <filesystem>
#include <optional>
#include <string>
#include <vector>

#include "klein/models/flux2/config.h"
#include "klein/models/flux2/lora.h"
#include "klein/models/flux2/model_files.h"
#include "klein/models/flux2/registry.h"
#include "klein/models/flux2/transformer.h"
#include "klein/models/flux2/vae.h"
#include "klein/models/qwen3/config.h"
#include "klein/models/qwen3/text_encoder.h"
#include "klein/quant/target.h"
#include "klein/sampling/flow_match.h"
#include "klein/tensor/mlx.h"

namespace klein::flux2 {

/// How the weights of a model are held.
struct LoadOptions {
  mx::Dtype dtype = mx::bfloat16;  ///< What is computed in.
  bool fp8_blocks = false;  ///< The transformer's blocks as e4m3, unless something else is said.
  std::optional<quant::Target> quantize_transformer = {}, quantize_text_encoder = {},
                               quantize_vae = {};

  std::vector<Lora> loras = {};  ///< Merged into the weights, before these are packed.
};

/// The parts of a model as far as they are there.
struct FoundParts {
  std::optional<PartSource> transformer = {}, text_encoder = {}, vae = {};
  std::optional<std::filesystem::path> tokenizer = {};  ///< tokenizer.json or its folder.
  std::vector<std::string> missing = {};                ///< "transformer", "tokenizer".
};

/// Gathers the parts of a model from wherever they are.
///
/// Errors   Error(not_found) when `files.model` is not there; as open_part and open_parts
FoundParts gather_parts(const ModelFiles& files);

/// Sizes from a part's config.json, or where there is none from the shapes of its tensors.
///
/// Errors   as TransformerConfig::from_json and transformer_config_from, and the others'
TransformerConfig transformer_config(const PartSource& source);
qwen3::TextEncoderConfig text_encoder_config(const PartSource& source);
VaeConfig vae_config(const PartSource& source);

/// A model: what its JSON files and the headers of its weight files say. Weights are read by the
/// load_* functions.
struct Checkpoint {
  std::filesystem::path path;  ///< The folder or file that was named.
  Variant variant = Variant::distilled;
  std::string variant_source = {};  ///< What says so: "model_index.json", "--base-model".
  std::vector<int> text_encoder_out_layers = {9, 18, 27};
  int max_sequence_length = 512;  ///< Tokens a prompt is padded or cut to, template included.
  std::optional<int> num_inference_steps = {};  ///< A model's own default, in model_index.json.
  std::optional<double> guidance_scale = {};    ///< The same; of base models only.
  sampling::SchedulerConfig scheduler = {.use_dynamic_shifting = true, .shift = 3.0f};
  TransformerConfig transformer;
  qwen3::TextEncoderConfig text_encoder;
  VaeConfig vae;
  PartSource transformer_source, text_encoder_source, vae_source;
  std::filesystem::path tokenizer;    ///< tokenizer.json or its folder.
  std::vector<std::string> warnings;  ///< What had to be assumed.

  bool is_distilled() const { return variant != Variant::base; }
  int default_steps() const { return num_inference_steps.value_or(defaults_of(variant).steps); }
  double default_guidance() const { return guidance_scale.value_or(defaults_of(variant).guidance); }

  /// Reads the JSON files and the headers of all parts.
  ///
  /// Sizes come from a part's config.json, or where there is none from the shapes of its tensors.
  /// Base or distilled comes from model_index.json, else from `files.variant`; without either the
  /// model counts as distilled, with a warning.
  ///
  /// Errors   Error(not_found) when the folder or one of the files is not there, naming every
  ///          missing part; Error(format), Error(unsupported) and Error(shape) when they describe
  ///          no FLUX.2 Klein model
  static Checkpoint read(const ModelFiles& files);

  /// The tensors of the text encoder without the layers and the head that encoding never uses.
  PartSource used_text_encoder_source() const;

  /// Compares the headers of all weight files with the sizes, text encoder layers included that no
  /// prompt needs.
  ///
  /// Errors   Error(shape) as load_*
  void expect_fitting_weights() const;

  /// Builds a part and fills it from its weights; then packs them where the options say so.
  ///
  /// Errors   Error(not_found) for missing files; Error(format) for broken ones; Error(shape)
  /// naming
  ///          every missing, unexpected and misshapen tensor
  Transformer load_transformer(const LoadOptions& options) const;
  qwen3::TextEncoder load_text_encoder(const LoadOptions& options) const;
  Vae load_vae(const LoadOptions& options) const;
};

}  // namespace klein::flux2
