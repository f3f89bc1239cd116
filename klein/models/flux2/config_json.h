#pragma once

#include "klein/io/json.h"
#include "klein/models/flux2/checkpoint.h"

namespace klein::flux2 {

/// The JSON files of a model as diffusers and transformers write them, for models that were read
/// from files without them.
///
/// Source   the config.json files of the published repositories
nlohmann::json transformer_json(const TransformerConfig& config);
nlohmann::json vae_json(const VaeConfig& config);
nlohmann::json text_encoder_json(const qwen3::TextEncoderConfig& config);
nlohmann::json scheduler_json(const sampling::SchedulerConfig& config);
nlohmann::json model_index_json(const Checkpoint& checkpoint);

}  // namespace klein::flux2
