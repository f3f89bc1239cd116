#pragma once

namespace klein::io {
class JsonReader;
}

namespace klein::qwen3 {

/// Sizes of a Qwen3 language model; field names are those of its config.json.
struct TextEncoderConfig {
  int vocab_size = 0;
  int hidden_size = 0;
  int intermediate_size = 0;
  int num_hidden_layers = 0;
  int num_attention_heads = 0;
  int num_key_value_heads = 0;
  int head_dim = 0;  ///< Not hidden_size / heads: Klein 4B has 32 heads of 128 over 2560 channels.
  float rms_norm_eps = 1e-6f;
  float rope_theta = 1e6f;
  bool tie_word_embeddings = false;  ///< False: the file holds an lm_head, which encoding skips.

  /// Throws Error(format) for a missing or absurd size, Error(unsupported) for what no FLUX.2
  /// checkpoint has (attention biases, sliding windows, scaled RoPE, another activation).
  static TextEncoderConfig from_json(const io::JsonReader& json);
};

}  // namespace klein::qwen3
