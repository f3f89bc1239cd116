#include "klein/models/qwen3/config.h"

#include <string>

#include <fmt/format.h>

#include "klein/core/error.h"
#include "klein/io/config_fields.h"
#include "klein/io/json.h"

namespace klein::qwen3 {
namespace {

/// transformers 5 moved rope_theta and the scaling into `rope_parameters`; older files have both at
/// the top.
void read_rope(const io::JsonReader& json, TextEncoderConfig& config) {
  std::string type = "default";
  json.maybe("rope_theta", config.rope_theta);
  nlohmann::json parameters;
  json.maybe("rope_parameters", parameters);
  if (!parameters.is_null()) {
    const auto rope = json.child("rope_parameters");
    rope.maybe("rope_theta", config.rope_theta);
    rope.maybe("rope_type", type);
  }
  nlohmann::json scaling;
  json.maybe("rope_scaling", scaling);
  if (!scaling.is_null()) type = "scaled";
  if (type != "default") io::refuse(json, "rope_scaling", "plain rotary positions");
}

}  // namespace

TextEncoderConfig TextEncoderConfig::from_json(const io::JsonReader& json) {
  TextEncoderConfig c;
  io::require_size(json, "vocab_size", c.vocab_size);
  io::require_size(json, "hidden_size", c.hidden_size);
  io::require_size(json, "intermediate_size", c.intermediate_size);
  io::require_size(json, "num_hidden_layers", c.num_hidden_layers);
  io::require_size(json, "num_attention_heads", c.num_attention_heads);
  io::require_size(json, "num_key_value_heads", c.num_key_value_heads);
  io::require_size(json, "head_dim", c.head_dim);
  json.maybe("rms_norm_eps", c.rms_norm_eps);
  json.maybe("tie_word_embeddings", c.tie_word_embeddings);
  read_rope(json, c);

  std::string activation = "silu";
  bool biases = false, sliding = false;
  json.maybe("hidden_act", activation);
  json.maybe("attention_bias", biases);
  json.maybe("use_sliding_window", sliding);
  if (activation != "silu") io::refuse(json, "hidden_act", "silu");
  if (biases) io::refuse(json, "attention_bias", "false");
  if (sliding) io::refuse(json, "use_sliding_window", "false");

  io::expect_heads(json, c.num_attention_heads, c.head_dim);
  if (c.num_attention_heads % c.num_key_value_heads != 0)
    throw Error(ErrorKind::shape,
                fmt::format("{}: expected num_attention_heads to be a multiple of "
                            "num_key_value_heads, got {} and {}",
                            json.where(), c.num_attention_heads, c.num_key_value_heads));
  if (c.head_dim % 2 != 0) json.fail("head_dim", "is odd");
  return c;
}

}  // namespace klein::qwen3
