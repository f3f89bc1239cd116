#include "klein/models/flux2/config.h"

#include <doctest/doctest.h>

#include "klein/core/error.h"
#include "klein/io/json.h"
#include "klein/models/qwen3/config.h"

namespace klein {
namespace {

using nlohmann::json;

json transformer() {
  return {{"in_channels", 128},
          {"num_layers", 5},
          {"num_single_layers", 20},
          {"attention_head_dim", 128},
          {"num_attention_heads", 24},
          {"joint_attention_dim", 7680},
          {"axes_dims_rope", {32, 32, 32, 32}},
          {"guidance_embeds", false}};
}

json text_encoder() {
  return {{"vocab_size", 300},      {"hidden_size", 32},        {"intermediate_size", 48},
          {"num_hidden_layers", 4}, {"num_attention_heads", 4}, {"num_key_value_heads", 2},
          {"head_dim", 16},         {"rope_theta", 1e6},        {"rope_scaling", nullptr}};
}

json vae() {
  return {{"latent_channels", 32},
          {"block_out_channels", {128, 256, 512, 512}},
          {"layers_per_block", 2},
          {"norm_num_groups", 32}};
}

template <typename Config>
Config read(const json& j) {
  return Config::from_json({j, "config.json"});
}

template <typename Config>
std::pair<ErrorKind, std::string> refused(const json& j) {
  try {
    read<Config>(j);
  } catch (const Error& e) {
    return {e.kind(), e.what()};
  }
  return {ErrorKind::internal, "nothing was refused"};
}

using Transformer = flux2::TransformerConfig;
using Vae = flux2::VaeConfig;
using Text = qwen3::TextEncoderConfig;

TEST_SUITE("models/config") {
  TEST_CASE("sizes come from the file") {
    CHECK(read<Transformer>(transformer()).dim() == 3072);
    CHECK(read<Transformer>(transformer()).mlp_dim() == 9216);
    CHECK(read<Vae>(vae()).scale() == 8);
    CHECK(read<Vae>(vae()).decoder_block_out_channels == std::vector{128, 256, 512, 512});
    CHECK(read<Text>(text_encoder()).head_dim == 16);
  }

  TEST_CASE("rope_theta is read from its old and its new place") {
    auto j = text_encoder();
    j["rope_theta"] = 5000.0;
    CHECK(read<Text>(j).rope_theta == 5000.0f);
    j.erase("rope_theta");
    j["rope_parameters"] = {{"rope_type", "default"}, {"rope_theta", 7000.0}};
    CHECK(read<Text>(j).rope_theta == 7000.0f);
  }

  TEST_CASE("a missing or absurd size is a format error that names it") {
    auto j = transformer();
    j.erase("num_layers");
    CHECK(refused<Transformer>(j) ==
          std::pair{ErrorKind::format, std::string("config.json: `num_layers` is missing")});
    j["num_layers"] = 0;
    CHECK(refused<Transformer>(j).second ==
          "config.json: `num_layers` is out of range: expected 1 to 16777216, got 0");
    auto text = text_encoder();
    text["vocab_size"] = -5;
    CHECK(refused<Text>(text).first == ErrorKind::format);
    text["vocab_size"] = 1e20;
    CHECK(refused<Text>(text).first == ErrorKind::format);
  }

  TEST_CASE("sizes that cannot work together are a shape error") {
    auto j = transformer();
    j["axes_dims_rope"] = {32, 32, 32, 16};
    CHECK(refused<Transformer>(j).second ==
          "config.json: expected even axes_dims_rope that sum to attention_head_dim 128, got "
          "[32, 32, 32, 16]");
    auto v = vae();
    v["block_out_channels"] = {100, 256};
    CHECK(refused<Vae>(v) ==
          std::pair{ErrorKind::shape,
                    std::string("config.json: expected `block_out_channels` to be multiples of "
                                "norm_num_groups 32, got 100")});
    auto t = text_encoder();
    t["num_key_value_heads"] = 3;
    CHECK(refused<Text>(t).first == ErrorKind::shape);
  }

  TEST_CASE("what belongs to another model is unsupported, not ignored") {
    auto j = transformer();
    j["guidance_embeds"] = true;
    CHECK(refused<Transformer>(j) ==
          std::pair{ErrorKind::unsupported,
                    std::string("config.json: expected `guidance_embeds` to be false: FLUX.2 Klein "
                                "has none, dev does, got true")});
    auto t = text_encoder();
    t["hidden_act"] = "gelu";
    CHECK(refused<Text>(t).second == "config.json: expected `hidden_act` to be silu, got \"gelu\"");
    t = text_encoder();
    t["rope_scaling"] = {{"type", "yarn"}};
    CHECK(refused<Text>(t).first == ErrorKind::unsupported);
    auto v = vae();
    v["act_fn"] = "relu";
    CHECK(refused<Vae>(v).first == ErrorKind::unsupported);
  }

  TEST_CASE("sizes that overflow where they meet are refused") {
    auto j = transformer();
    j["num_attention_heads"] = 1 << 20;
    CHECK(refused<Transformer>(j).second ==
          "config.json: expected attention of at most 16777216 channels, got 1048576 heads of 128");
    j = transformer();
    j["axes_dims_rope"] = {2147483646, 2147483646, 2147483646, 2147483646};
    CHECK(refused<Transformer>(j).second ==
          "config.json: expected even axes_dims_rope that sum to attention_head_dim 128, got "
          "[2147483646, 2147483646, 2147483646, 2147483646]");
    j = transformer();
    j["num_attention_heads"] = 1 << 17;
    j["mlp_ratio"] = 3;
    CHECK(refused<Transformer>(j).second == "config.json: `mlp_ratio` is out of range");
    j = transformer();
    j["mlp_ratio"] = 1e-6;
    CHECK(refused<Transformer>(j).second == "config.json: `mlp_ratio` is out of range");
    j = text_encoder();
    j["num_attention_heads"] = j["head_dim"] = 1 << 24;
    CHECK(refused<Text>(j).second ==
          "config.json: expected attention of at most 16777216 channels, got 16777216 heads of "
          "16777216");
  }
}

}  // namespace
}  // namespace klein
