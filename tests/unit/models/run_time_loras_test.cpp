#include "klein/models/flux2/run_time_loras.h"

#include <doctest/doctest.h>

#include "klein/core/error.h"
#include "klein/models/flux2/checkpoint.h"
#include "unit/io/support.h"

namespace klein::flux2 {
namespace {

using io::test::error_of;
using io::test::message_of;
using io::test::TempDir;

Checkpoint tiny() {
  return Checkpoint::read(
      {.model = std::filesystem::path(KLEIN_TEST_FIXTURES) / "models/tiny-distilled"});
}

/// A LoRA of one layer [out, in].
std::string write(const TempDir& folder, const std::string& layer, int in, int out, int rank = 1,
                  mx::Dtype dtype = mx::float32) {
  const auto path = (folder / "x.safetensors").string();
  mx::save_safetensors(path, {{layer + ".lora_A.weight", mx::ones({rank, in}, dtype)},
                              {layer + ".lora_B.weight", mx::ones({out, rank}, dtype)}});
  return path;
}

const nn::LowRank& factors(const Adapters& adapters, const std::string& weight) {
  return std::get<nn::LowRank>(adapters.transformer.at(weight).at(0).matrix);
}

TEST_SUITE("models/run_time_loras") {
  TEST_CASE("a file is read once, and again when it has changed") {
    const TempDir folder;
    const auto model = tiny();
    const auto path = write(folder, "proj_out", 16, 128);
    RunTimeLoras loras(4);
    const auto read = [&] { return loras.read({{path}}, model, mx::float32); };
    const auto first = factors(read(), "proj_out.weight").a.id();
    CHECK(factors(read(), "proj_out.weight").a.id() == first);
    write(folder, "proj_out", 16, 128, /*rank=*/2);
    const auto changed = read();
    CHECK(factors(changed, "proj_out.weight").a.shape(0) == 2);
    std::filesystem::remove(path);
    CHECK(error_of(read).kind() == ErrorKind::not_found);
  }

  TEST_CASE("what no recent request named is let go") {
    const TempDir folder;
    const auto model = tiny();
    const auto path = write(folder, "proj_out", 16, 128);
    RunTimeLoras loras(2);
    (void)loras.read({{path}}, model, mx::float32);
    CHECK(loras.nbytes() == 4 * (16 + 128));
    (void)loras.read({}, model, mx::float32);
    CHECK(loras.nbytes() == 4 * (16 + 128));
    (void)loras.read({}, model, mx::float32);
    CHECK(loras.nbytes() == 0);
  }

  TEST_CASE("q, k and v share one A, in the dtype that is computed in") {
    const TempDir folder;
    const auto path = write(folder, "double_blocks.0.img_attn.qkv", 16, 48, 3, mx::float16);
    RunTimeLoras loras(1);
    const auto adapters = loras.read({{path}}, tiny(), mx::bfloat16);
    CHECK(adapters.transformer.size() == 3);
    const auto& q = factors(adapters, "transformer_blocks.0.attn.to_q.weight");
    CHECK(q.a.dtype() == mx::bfloat16);
    CHECK(q.b.shape() == mx::Shape{16, 3});
    CHECK(loras.nbytes() == 2 * (3 * 16 + 48 * 3));
  }

  TEST_CASE("scales multiply, the same file twice counts twice, and scale 0 adds nothing") {
    const TempDir folder;
    const auto path = write(folder, "proj_out", 16, 128);
    RunTimeLoras loras(1);
    const auto adapters = loras.read({{path, 0.5}, {path, 0.0}, {path, -2.0}}, tiny(), mx::float32);
    const auto& added = adapters.transformer.at("proj_out.weight");
    REQUIRE(added.size() == 2);
    CHECK(added[0].scale == 0.5f);
    CHECK(added[1].scale == -2.0f);
    CHECK(loras.read({{path, 0.0}}, tiny(), mx::float32).transformer.empty());
  }

  TEST_CASE("the text encoder's key tells its LoRAs and their scales apart") {
    const TempDir folder, other;
    const auto path = write(folder, "model.layers.0.mlp.down_proj", 40, 32);
    const auto image = write(other, "proj_out", 16, 128);
    RunTimeLoras loras(4);
    const auto model = tiny();
    const auto key = [&](const std::vector<LoraChoice>& choices) {
      return loras.read(choices, model, mx::float32).text_encoder_key;
    };
    CHECK(key({}).empty());
    CHECK(key({{image}}).empty());
    CHECK(key({{path, 0.0}}).empty());
    const auto once = key({{path}});
    CHECK_FALSE(once.empty());
    CHECK(key({{image}, {path}}) == once);
    CHECK(key({{path, 0.5}}) != once);
    CHECK(key({{path}, {path}}) != once);
    write(folder, "model.layers.0.mlp.down_proj", 40, 32, /*rank=*/2);
    CHECK(key({{path}}) != once);
  }

  TEST_CASE("a table of embeddings cannot be changed at run time") {
    const TempDir folder;
    const auto model = tiny();
    const auto& shape = model.text_encoder_source.shapes.at("model.embed_tokens.weight");
    const auto path =
        write(folder, "model.embed_tokens", static_cast<int>(shape[1]), static_cast<int>(shape[0]));
    RunTimeLoras loras(1);
    const auto read = [&] { (void)loras.read({{path}}, model, mx::float32); };
    CHECK(message_of(folder, read) ==
          "expected a LoRA that changes linear layers, got one that changes the table "
          "model.embed_tokens.weight: DIR/x.safetensors");
    CHECK(error_of(read).hint() == "It can be merged into the weights (--merge-loras).");
  }

  TEST_CASE("layers without a place are named with every request") {
    const TempDir folder;
    const auto path = (folder / "x.safetensors").string();
    mx::save_safetensors(path, {{"proj_out.lora_A.weight", mx::ones({1, 16})},
                                {"proj_out.lora_B.weight", mx::ones({128, 1})},
                                {"unknown.lora_A.weight", mx::ones({1, 16})},
                                {"unknown.lora_B.weight", mx::ones({128, 1})}});
    RunTimeLoras loras(1);
    for (int i = 0; i < 2; ++i)
      CHECK(loras.read({{path}}, tiny(), mx::float32).warnings ==
            std::vector<std::string>{
                "the model has no place for 1 of 2 layers of x.safetensors: unknown"});
  }
}

}  // namespace
}  // namespace klein::flux2
