#include "klein/nn/module.h"

#include <doctest/doctest.h>

#include "klein/models/flux2/transformer.h"
#include "klein/models/flux2/vae.h"
#include "klein/models/qwen3/text_encoder.h"
#include "klein/nn/linear.h"

namespace klein {
namespace {

/// Counts tensors and numbers of a tree without reading one.
struct Counter : nn::Visitor {
  void on_array(const std::string& path, mx::array& value) override {
    ++tensors;
    parameters += static_cast<long long>(value.size());
    last = path;
  }
  int tensors = 0;
  long long parameters = 0;
  std::string last;
};

TEST_SUITE("nn/module") {
  TEST_CASE("a tree of Klein 4B's sizes has the published number of tensors and parameters") {
    flux2::TransformerConfig config;
    config.in_channels = 128;
    config.num_layers = 5;
    config.num_single_layers = 20;
    config.attention_head_dim = 128;
    config.num_attention_heads = 24;
    config.joint_attention_dim = 7680;
    flux2::Transformer transformer(config);
    Counter counter;
    transformer.visit(counter);
    CHECK(counter.tensors == 169);
    CHECK(counter.parameters == 3'875'544'576LL);
    CHECK(counter.last == "proj_out.weight");
  }

  TEST_CASE("the text encoder of Klein 4B holds 27 layers and the embeddings") {
    qwen3::TextEncoderConfig config;
    config.vocab_size = 151936;
    config.hidden_size = 2560;
    config.intermediate_size = 9728;
    config.num_hidden_layers = 36;
    config.num_attention_heads = 32;
    config.num_key_value_heads = 8;
    config.head_dim = 128;
    qwen3::TextEncoder encoder(config, {9, 18, 27});
    Counter counter;
    encoder.visit(counter);
    CHECK(counter.tensors == 298);
    CHECK(counter.parameters == 6'228'176'384LL / 2);  // two bytes each
    CHECK(encoder.is_unused("model.layers.27.mlp.down_proj.weight"));
    CHECK(encoder.is_unused("model.norm.weight"));
    CHECK(encoder.is_unused("lm_head.weight"));
    CHECK_FALSE(encoder.is_unused("model.layers.26.mlp.down_proj.weight"));
    CHECK_FALSE(encoder.is_unused("model.layers.36.mlp.down_proj.weight"));
    CHECK_FALSE(encoder.is_unused("model.layers.x"));
  }

  TEST_CASE("the autoencoder of FLUX.2 has the published number of parameters") {
    flux2::VaeConfig config;
    config.latent_channels = 32;
    config.block_out_channels = config.decoder_block_out_channels = {128, 256, 512, 512};
    config.layers_per_block = 2;
    flux2::Vae vae(config);
    Counter counter;
    vae.visit(counter);
    CHECK(counter.tensors == 250);  // 251 in the file with bn.num_batches_tracked
    CHECK(counter.parameters == 84'046'115LL + 256);
  }
}

}  // namespace
}  // namespace klein
