#include "klein/models/flux2/streaming.h"

#include <string>
#include <vector>

#include <doctest/doctest.h>

#include "klein/core/error.h"
#include "klein/models/flux2/memory_plan.h"
#include "klein/models/flux2/run_time_loras.h"
#include "klein/tensor/random.h"

namespace klein::flux2 {
namespace {

const std::string kFixtures = std::string(KLEIN_TEST_FIXTURES) + "/models/";

Checkpoint tiny() {
  return Checkpoint::read({.model = kFixtures + "tiny-distilled", .variant = Variant::distilled});
}

bool same_numbers(const mx::array& a, const mx::array& b) {
  return a.dtype() == b.dtype() && mx::array_equal(a, b).item<bool>();
}

TransformerInput input(const Checkpoint& c, const Transformer& whole, mx::Dtype dtype, int seed) {
  constexpr int rows = 4, columns = 3, text = 7;
  std::vector<nn::PositionId> ids;
  for (int h = 0; h < rows; ++h)
    for (int w = 0; w < columns; ++w) ids.push_back({0, h, w, 0});
  const auto numbers = [&](int length, int width, int offset) {
    return mx::astype(torch_randn({1, length, width}, static_cast<std::uint64_t>(seed + offset)),
                      dtype);
  };
  return {.latents = numbers(rows * columns, c.transformer.in_channels, 0),
          .prompt_embeds = numbers(text, c.transformer.joint_attention_dim, 100),
          .timestep = mx::array({0.75f}),
          .rope = whole.rope(text, ids)};
}

TEST_SUITE("models/streaming") {
  TEST_CASE("a streamed transformer computes what the whole one does, bit for bit") {
    const auto c = tiny();
    const int blocks = c.transformer.num_layers + c.transformer.num_single_layers;
    std::vector<LoadOptions> all{{.dtype = mx::float32}, {.dtype = mx::bfloat16}};
    all.push_back({.dtype = mx::bfloat16, .quantize_transformer = quant::parse_target("fp8")});
    for (const auto& options : all) {
      const auto whole = c.load_transformer(options);
      const std::vector<TransformerInput> passes{input(c, whole, options.dtype, 1),
                                                 input(c, whole, options.dtype, 2)};
      for (int resident = 0; resident <= blocks; ++resident) {
        const StreamedTransformer streamed(c, options, resident);
        CHECK(streamed.streamed_blocks() == blocks - resident);
        for (int round = 0; round < 2; ++round) {  // blocks come again in every step
          const auto velocities = streamed(passes);
          REQUIRE(velocities.size() == 2);
          for (std::size_t i = 0; i < 2; ++i)
            CHECK(same_numbers(velocities[i], whole(passes[i].latents, passes[i].prompt_embeds,
                                                    passes[i].timestep, passes[i].rope)));
        }
      }
    }
  }

  TEST_CASE("kept references are those of every prompt, timestep and number of streamed blocks") {
    const auto c = tiny();
    const int blocks = c.transformer.num_layers + c.transformer.num_single_layers;
    for (const auto dtype : {mx::float32, mx::bfloat16}) {
      const LoadOptions options{.dtype = dtype};
      const auto whole = c.load_transformer(options);
      const StreamedTransformer resident(c, options, blocks);
      auto first = input(c, whole, dtype, 1), second = input(c, whole, dtype, 2);
      const auto& picture = first.latents;
      std::vector<nn::PositionId> places;
      for (int i = 0; i < picture.shape(1); ++i) places.push_back({10, i / 3, i % 3, 0});
      const auto cache = resident.read_references(picture, resident.rope(0, places));
      first.references = second.references = &cache;
      const auto want = resident(std::vector{first, second});
      CHECK_FALSE(same_numbers(
          want[0], whole(first.latents, first.prompt_embeds, first.timestep, first.rope)));
      // A pass with the references is the same beside others and alone.
      CHECK(same_numbers(want[1], resident(std::vector{second})[0]));
      for (int kept = 0; kept < blocks; ++kept) {
        const StreamedTransformer streamed(c, options, kept);
        const auto again = streamed.read_references(picture, streamed.rope(0, places));
        first.references = second.references = &again;
        const auto velocities = streamed(std::vector{first, second});
        CHECK(same_numbers(velocities[0], want[0]));
        CHECK(same_numbers(velocities[1], want[1]));
      }
    }
  }

  TEST_CASE("a batch shares the references of one picture") {
    const auto c = tiny();
    const LoadOptions options{.dtype = mx::float32};
    const auto whole = c.load_transformer(options);
    const StreamedTransformer transformer(c, options, 100);
    auto one = input(c, whole, mx::float32, 1), two = input(c, whole, mx::float32, 2);
    std::vector<nn::PositionId> places;
    for (int i = 0; i < one.latents.shape(1); ++i) places.push_back({10, i, 0, 0});
    const auto cache = transformer.read_references(one.latents, transformer.rope(0, places));
    one.references = two.references = &cache;
    const auto alone = transformer(std::vector{one, two});
    TransformerInput both{mx::concatenate({one.latents, two.latents}, 0),
                          mx::concatenate({one.prompt_embeds, two.prompt_embeds}, 0),
                          mx::array({0.75f, 0.75f}), one.rope, &cache};
    const auto together = transformer(std::vector{both})[0];
    auto difference = mx::max(mx::abs(together - mx::concatenate({alone[0], alone[1]}, 0)));
    CHECK(difference.item<float>() < 1e-5f);
  }

  TEST_CASE("what is prepared for timesteps and prompts serves until the LoRAs change") {
    const auto c = tiny();
    const LoadOptions options{.dtype = mx::float32};
    const auto whole = c.load_transformer(options);
    RunTimeLoras loras(1);
    const auto adapters =
        loras.read({{kFixtures + "../lora/lokr_ai_toolkit.safetensors", 0.7}}, c, mx::float32);
    const auto pass = input(c, whole, mx::float32, 1);
    StreamedTransformer fresh(c, options, 100), kept(c, options, 100);
    const auto plain = fresh(std::vector{pass})[0];
    fresh.set_adapters(adapters.transformer);
    const auto changed = fresh(std::vector{pass})[0];
    for (int turn = 0; turn < 2; ++turn) {
      kept.set_adapters({});
      for (int again = 0; again < 2; ++again) {
        kept.prepare({pass.timestep}, {pass.prompt_embeds});
        CHECK(same_numbers(kept(std::vector{pass})[0], plain));
      }
      kept.set_adapters(adapters.transformer);
      kept.prepare({pass.timestep}, {pass.prompt_embeds});
      CHECK(same_numbers(kept(std::vector{pass})[0], changed));
    }
  }

  TEST_CASE("position tables are those of the places that are asked for, kept or not") {
    const auto c = tiny();
    const StreamedTransformer transformer(c, {.dtype = mx::float32}, 100);
    const auto whole = c.load_transformer({.dtype = mx::float32});
    for (int turn = 0; turn < 2; ++turn)
      for (const int text : {3, 4, 0, 5})
        for (const int t : {0, 10}) {
          const std::vector<nn::PositionId> ids{{t, 0, 0, 0}, {t, 1, 0, 0}};
          const auto got = transformer.rope(text, ids), want = whole.rope(text, ids);
          CHECK(same_numbers(got.cosines, want.cosines));
          CHECK(same_numbers(got.sines, want.sines));
        }
  }

  TEST_CASE("with a LoRA too, and without it again") {
    const auto c = tiny();
    RunTimeLoras loras(1);
    const auto read = [&](const char* name, mx::Dtype dtype) {
      return loras.read({{kFixtures + "../lora/" + name, 0.7}}, c, dtype);
    };
    for (const auto dtype : {mx::float32, mx::bfloat16}) {
      const LoadOptions options{.dtype = dtype, .quantize_transformer = quant::parse_target("fp8")};
      const auto adapters = read("lokr_ai_toolkit.safetensors", dtype);
      auto whole = c.load_transformer(options);
      const auto passes = std::vector{input(c, whole, dtype, 1)};
      const auto velocity = [&] {
        return whole(passes[0].latents, passes[0].prompt_embeds, passes[0].timestep,
                     passes[0].rope);
      };
      const auto plain = velocity();
      weights::set_adapters(whole, adapters.transformer);
      CHECK_FALSE(same_numbers(velocity(), plain));
      for (int resident = 0; resident <= 2; ++resident) {
        StreamedTransformer streamed(c, options, resident);
        streamed.set_adapters(adapters.transformer);
        CHECK(same_numbers(streamed(passes)[0], velocity()));
        streamed.set_adapters({});
        CHECK(same_numbers(streamed(passes)[0], plain));
      }

      const std::vector<qwen3::TokenRow> prompts{{.ids = {1, 2, 3, 4, 5, 0}, .length = 5}};
      const auto for_text = read("text_kohya.safetensors", dtype);
      auto encoder = c.load_text_encoder(options);
      const auto without = encoder(prompts);
      weights::set_adapters(encoder, for_text.text_encoder);
      StreamedTextEncoder streamed(c, options);
      CHECK(same_numbers(streamed(prompts)[0], without));
      streamed.set_adapters(for_text.text_encoder);
      CHECK(same_numbers(streamed(prompts)[0], encoder(prompts)));
      CHECK_FALSE(same_numbers(encoder(prompts), without));
    }
  }

  TEST_CASE("a streamed text encoder computes what the whole one does, bit for bit") {
    const auto c = tiny();
    const std::vector<qwen3::TokenRow> prompts{{.ids = {1, 2, 3, 4, 5, 0}, .length = 5},
                                               {.ids = {9, 8, 7, 0, 0, 0}, .length = 3}};
    std::vector<LoadOptions> all{{.dtype = mx::float32}, {.dtype = mx::bfloat16}};
    all.push_back({.dtype = mx::bfloat16, .quantize_text_encoder = quant::parse_target("fp8")});
    for (const auto& options : all) {
      const auto whole = c.load_text_encoder(options);
      const auto features = StreamedTextEncoder(c, options)(prompts);
      REQUIRE(features.size() == 2);
      for (std::size_t i = 0; i < 2; ++i) CHECK(same_numbers(features[i], whole({&prompts[i], 1})));
    }
  }

  TEST_CASE("what does not fit is named before a block is needed") {
    auto c = tiny();
    auto& shapes = c.transformer_source.shapes;
    shapes.erase("single_transformer_blocks.0.attn.to_out.weight");
    shapes["proj_out.weight"] = {1, 2};
    try {
      const StreamedTransformer streamed(c, {}, 0);
      FAIL("expected an error");
    } catch (const Error& e) {
      CHECK(e.kind() == ErrorKind::shape);
      const std::string text = e.what();
      CHECK(text.find("missing single_transformer_blocks.0.attn.to_out.weight") !=
            std::string::npos);
      CHECK(text.find("proj_out.weight is [1, 2], expected ") != std::string::npos);
    }
  }

  TEST_CASE("the plan's bytes are those of the files") {
    const auto c = tiny();
    const auto bytes = bytes_of(c, {.dtype = mx::bfloat16});
    const auto numbers = [](const PartSource& source) {
      std::uint64_t count = 0;
      for (const auto& [name, shape] : source.shapes) {
        std::uint64_t product = 1;
        for (const auto extent : shape) product *= static_cast<std::uint64_t>(extent);
        count += product;
      }
      return count;
    };
    CHECK(bytes.transformer.whole() == 2 * numbers(c.transformer_source));
    CHECK(bytes.transformer.blocks.size() ==
          static_cast<std::size_t>(c.transformer.num_layers + c.transformer.num_single_layers));
    CHECK(bytes.vae.whole() == 2 * numbers(c.vae_source));
    CHECK(bytes.vae.blocks.empty());

    const auto packed =
        bytes_of(c, {.dtype = mx::bfloat16, .quantize_transformer = quant::parse_target("fp8")});
    CHECK(packed.transformer.whole() < bytes.transformer.whole());
    CHECK(packed.transformer.packing > 0);

    const auto fp8 = bytes_of(c, {.dtype = mx::bfloat16, .fp8_blocks = true});
    CHECK(fp8.transformer.blocks == packed.transformer.blocks);
    CHECK(fp8.transformer.stem == bytes.transformer.stem);
    CHECK(fp8.text_encoder.whole() == bytes.text_encoder.whole());
  }
}

}  // namespace
}  // namespace klein::flux2
