#include "klein/models/flux2/memory_plan.h"

#include <algorithm>
#include <string>

#include <doctest/doctest.h>

#include "klein/core/error.h"

namespace klein::flux2 {
namespace {

constexpr std::uint64_t kGB = 1'000'000'000, kMB = 1'000'000;

/// Klein 4B, of which the plan reads sizes alone.
Checkpoint klein_4b() {
  Checkpoint c;
  c.transformer = {.in_channels = 128,
                   .num_layers = 5,
                   .num_single_layers = 20,
                   .attention_head_dim = 128,
                   .num_attention_heads = 24,
                   .joint_attention_dim = 7680};
  c.text_encoder.hidden_size = 2560;
  c.text_encoder.intermediate_size = 9728;
  c.vae = {.latent_channels = 32,
           .block_out_channels = {128, 256, 512, 512},
           .decoder_block_out_channels = {128, 256, 512, 512},
           .layers_per_block = 2};
  return c;
}

/// Its bytes in bfloat16: shapes times two, counted by tools/random_checkpoint.py.
ModelBytes bytes_of_4b() {
  ModelBytes bytes;
  bytes.text_encoder.blocks.assign(27, 202 * kMB);
  bytes.transformer.stem = 390 * kMB;
  bytes.transformer.blocks.assign(5, 491 * kMB);
  bytes.transformer.blocks.insert(bytes.transformer.blocks.end(), 20, 245 * kMB);
  bytes.vae.stem = 168 * kMB;
  return bytes;
}

Workload picture(std::uint64_t budget, NextRequest next = NextRequest::none, int pixels = 1024) {
  return {.rows = pixels / 16, .columns = pixels / 16, .next = next, .budget_bytes = budget};
}

MemoryPlan plan(const Workload& work, const ModelBytes& bytes = bytes_of_4b()) {
  return plan_memory(klein_4b(), {}, bytes, work);
}

TEST_SUITE("models/memory_plan") {
  TEST_CASE("where memory abounds everything stays for what may come") {
    const auto p = plan(picture(100 * kGB, NextRequest::any));
    CHECK(p.fits());
    CHECK(p.load_at_once);
    CHECK_FALSE(p.stream_text_encoder);
    CHECK_FALSE(p.drop_text_encoder);
    CHECK_FALSE(p.drop_transformer);
    CHECK(p.streamed_blocks == 0);
    CHECK(p.decode.tiling == VaeTiling::off);
    CHECK_FALSE(p.is_notable);
    CHECK(p.peak_bytes() > bytes_of_4b().text_encoder.whole() + bytes_of_4b().transformer.whole());
  }

  TEST_CASE("what no later picture needs goes after its use, which is nothing to talk about") {
    const auto same = plan(picture(100 * kGB, NextRequest::same_prompts));
    CHECK(same.drop_text_encoder);
    CHECK(same.stream_text_encoder);
    CHECK_FALSE(same.drop_transformer);
    const auto last = plan(picture(100 * kGB));
    CHECK(last.drop_transformer);
    CHECK_FALSE(last.is_notable);
    CHECK(last.peak_bytes() < plan(picture(100 * kGB, NextRequest::any)).peak_bytes());
  }

  TEST_CASE("a text encoder that is there already is not read anew for its last prompt") {
    auto work = picture(100 * kGB, NextRequest::same_prompts);
    work.has_text_encoder = true;
    const auto p = plan(work);
    CHECK(p.drop_text_encoder);
    CHECK_FALSE(p.stream_text_encoder);
  }

  TEST_CASE("as the budget shrinks, strips come before leaving, and streaming comes last") {
    int stage = 0, streamed = 0;
    for (auto budget = 30 * kGB; budget >= 2 * kGB; budget -= 100 * kMB) {
      const auto p = plan(picture(budget, NextRequest::any));
      if (!p.fits()) break;
      CHECK(p.peak_bytes() <= budget);
      const int now = p.streamed_blocks > 0               ? 4
                      : p.drop_transformer                ? 3
                      : p.drop_text_encoder               ? 2
                      : p.decode.tiling != VaeTiling::off ? 1
                                                          : 0;
      CHECK(p.streamed_blocks >= streamed);
      if (now < 3 || stage < 3) CHECK(now >= stage);
      stage = std::max(stage, now);
      streamed = p.streamed_blocks;
    }
    CHECK(stage == 4);
  }

  TEST_CASE("bfloat16 at 1024 x 1024 streams no more blocks than 8 GB ask for") {
    const auto p = plan(picture(8 * kGB));
    CHECK(p.fits());
    CHECK(p.streamed_blocks > 0);
    CHECK(p.streamed_bytes == p.streamed_blocks * 245 * kMB);
    CHECK(p.peak_bytes() + 245 * kMB > 8 * kGB);
    CHECK(p.is_notable);
  }

  TEST_CASE("a text encoder that keeps within the budget by itself is loaded before the rest") {
    const auto p = plan(picture(8 * kGB));
    CHECK(p.stream_text_encoder);
    CHECK(p.text_bytes <= 8 * kGB);
  }

  TEST_CASE("two passes, more pictures at once and larger ones take more") {
    const auto base = plan(picture(100 * kGB)).step_bytes;
    auto work = picture(100 * kGB);
    work.passes = 2;
    CHECK(plan(work).step_bytes > base);
    work.batch = 2;
    CHECK(plan(work).step_bytes > base + 400 * kMB);
    CHECK(plan(picture(100 * kGB, NextRequest::none, 2048)).step_bytes > base + 1000 * kMB);
  }

  TEST_CASE("low ram lets parts go and decodes in strips although memory abounds") {
    auto work = picture(100 * kGB, NextRequest::any);
    work.low_ram = true;
    const auto p = plan(work);
    CHECK(p.drop_text_encoder);
    CHECK(p.streamed_blocks == 0);
    CHECK(p.decode.tiling == VaeTiling::exact);
    CHECK(p.is_notable);
  }

  TEST_CASE("a prompt that is known already takes nothing") {
    auto work = picture(100 * kGB, NextRequest::same_prompts);
    const auto with = plan(work).text_bytes;
    work.encodes = false;
    CHECK(plan(work).text_bytes < with);
  }

  TEST_CASE("weights that are packed on the way take the widest of them beside") {
    auto some = bytes_of_4b(), more = bytes_of_4b();
    some.transformer.packing = 3 * kGB;
    more.transformer.packing = 4 * kGB;
    const auto work = picture(100 * kGB);
    CHECK(plan(work, some).step_bytes > plan(work).step_bytes);
    CHECK(plan(work, more).step_bytes == plan(work, some).step_bytes + kGB);
  }

  TEST_CASE("the sentence says what is done") {
    MemoryPlan p{.block_count = 25, .step_bytes = 5'900 * kMB, .budget_bytes = 8 * kGB};
    CHECK(p.describe() == "expected peak 5.9 GB of 8.0 GB");
    p.drop_text_encoder = true;
    p.streamed_blocks = 12;
    p.streamed_bytes = 2'940 * kMB;
    CHECK(p.describe() ==
          "expected peak 5.9 GB of 8.0 GB, text encoder dropped after the prompt, 12 of 25 blocks "
          "of the transformer streamed from disk (2.9 GB a step)");
    p.streamed_blocks = 25;
    p.streamed_bytes = 7'361 * kMB;
    p.drop_text_encoder = false;
    p.drop_transformer = true;
    p.decode.tiling = VaeTiling::exact;
    p.decode.strip_rows = 64;
    CHECK(p.describe() ==
          "expected peak 5.9 GB of 8.0 GB, transformer streamed from disk (7.4 GB a step), "
          "transformer dropped before the decoder, decoded in strips of 64 rows");
  }

  TEST_CASE("references take room in every step, kept ones as keys and values") {
    auto work = picture(100 * kGB);
    const auto alone = plan(work);
    work.reference_tokens = 4096;
    work.encoded_rows = work.encoded_columns = 1024;
    work.needs_vae_early = true;
    const auto seen = plan(work);
    CHECK(seen.step_bytes > alone.step_bytes + 4096 * (8 + 9) * 3072 * 2);
    CHECK(seen.encode_bytes > 0);
    CHECK(seen.encode.estimated_bytes > 0);
    work.keeps_references = true;
    const auto kept = plan(work);
    // 25 blocks of 4096 tokens of 3072 keys and as many values in bfloat16 are 1.26 GB.
    CHECK(kept.step_bytes > alone.step_bytes + 1258 * kMB);
    CHECK(kept.step_bytes < seen.step_bytes + 1258 * kMB);

    // Where they do not fit beside the weights, blocks are streamed for them.
    work = picture(8 * kGB);
    const int streamed = plan(work).streamed_blocks;
    work.reference_tokens = 4096;
    work.keeps_references = true;
    work.encoded_rows = work.encoded_columns = 1024;
    work.needs_vae_early = true;
    CHECK(plan(work).streamed_blocks > streamed);
    CHECK(plan(work).fits());
  }

  TEST_CASE("what cannot fit is refused with what it takes and what to do") {
    const MemoryPlan p{.step_bytes = 2'500 * kMB, .budget_bytes = 900 * kMB};
    const auto refusal = [&](const Workload& work, bool is_given) {
      try {
        expect_fits(p, work, 1024, 768, is_given);
      } catch (const Error& e) {
        CHECK(e.kind() == ErrorKind::memory);
        return std::string(e.what()) + " | " + e.hint();
      }
      return std::string();
    };
    CHECK(refusal({}, true) ==
          "expected at least 2.5 GB of memory for 1024 x 768 pixels, got a budget of 0.90 GB | Ask "
          "for a smaller picture, or raise --memory-budget.");
    CHECK(refusal({.batch = 3}, false) ==
          "expected at least 2.5 GB of memory for 3 pictures of 1024 x 768 pixels, found 0.90 GB | "
          "Ask for fewer or smaller pictures, or end other programs.");
    CHECK_NOTHROW(expect_fits({.step_bytes = kGB, .budget_bytes = kGB}, {}, 16, 16, true));
  }
}

}  // namespace
}  // namespace klein::flux2
