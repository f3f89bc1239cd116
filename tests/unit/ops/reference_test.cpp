// Against what PyTorch computed: fixtures that reference/ wrote, in float32 and bfloat16.
#include <cmath>
#include <string>
#include <unordered_map>

#include "klein/ops/attention.h"
#include "klein/ops/conv.h"
#include "klein/ops/linear.h"
#include "klein/ops/norm.h"
#include "klein/ops/rope.h"
#include "unit/ops/support.h"

namespace klein::ops::test {
namespace {

using Tensors = std::unordered_map<std::string, mx::array>;

/// Calls check(tensors, tolerance) for a fixture and its bfloat16 twin, with both backends.
///
/// A tolerance is relative to the largest wanted number: 1e-6 in float32; in bfloat16 one unit in
/// the last place of it, where a sum in another order fell on the other side of a rounding.
template <typename Check>
void for_each_version(const std::string& name, const Check& check) {
  for (const bool rounded : {false, true})
    for (const auto backend : {Backend::native, Backend::portable}) {
      const With with(backend);
      const auto file = name + (rounded ? "_bf16" : "");
      INFO(file << (backend == Backend::native ? ", native" : ", portable"));
      check(mx::load_safetensors(std::string(KLEIN_TEST_FIXTURES) + "/nn/" + file + ".safetensors")
                .first,
            rounded ? 1.0f / 128 : 2e-6f);
    }
}

void check_equal(const mx::array& got, const mx::array& want, float tolerance) {
  REQUIRE(got.shape() == want.shape());
  REQUIRE(got.dtype() == want.dtype());
  const auto a = mx::astype(got, mx::float32), b = mx::astype(want, mx::float32);
  CHECK(mx::max(mx::abs(a - b)).item<float>() <= tolerance * mx::max(mx::abs(b)).item<float>());
}

/// [B, C, H, W] <-> [B, H, W, C]; [B, H, S, D] <-> [B, S, H, D]
mx::array channels_last(const mx::array& a) {
  return mx::transpose(a, {0, 2, 3, 1});
}
mx::array channels_first(const mx::array& a) {
  return mx::transpose(a, {0, 3, 1, 2});
}
mx::array swap_heads(const mx::array& a) {
  return mx::transpose(a, {0, 2, 1, 3});
}

/// Every second column of a table that says each angle twice in a row.
mx::array of_pairs(const mx::array& table) {
  return mx::slice(table, {0, 0}, {table.shape(0), table.shape(1)}, {1, 2});
}

TEST_SUITE("ops/reference") {
  TEST_CASE("linear") {
    for_each_version("linear_bias", [](const Tensors& t, float tolerance) {
      check_equal(linear(t.at("input"), t.at("weights.weight"), t.at("weights.bias")),
                  t.at("output"), tolerance);
    });
  }

  TEST_CASE("attention") {
    for (const std::string name : {"attention", "attention_long"})
      for_each_version(name, [](const Tensors& t, float tolerance) {
        const auto q = swap_heads(t.at("q"));
        const float scale = 1.0f / std::sqrt(static_cast<float>(q.shape(3)));
        const auto out = attention(q, swap_heads(t.at("k")), swap_heads(t.at("v")), scale);
        check_equal(swap_heads(out), t.at("output"), tolerance);
      });
  }

  TEST_CASE("causal attention with padding and shared heads") {
    for_each_version("attention_causal_padded", [](const Tensors& t, float tolerance) {
      const auto q = swap_heads(t.at("q"));
      AttentionMask mask = {.causal = true};
      for (const float n : values(mx::sum(t.at("attention_mask"), 1)))
        mask.key_lengths.push_back(static_cast<int>(n));
      const float scale = 1.0f / std::sqrt(static_cast<float>(q.shape(3)));
      const auto out = attention(q, swap_heads(t.at("k")), swap_heads(t.at("v")), scale, mask);
      check_equal(swap_heads(out), t.at("output"), tolerance);
    });
  }

  TEST_CASE("norms") {
    for_each_version("rms_norm", [](const Tensors& t, float tolerance) {
      check_equal(rms_norm(t.at("input"), t.at("weights.weight"), 1e-6f), t.at("output"),
                  tolerance);
    });
    for_each_version("qwen_rms_norm", [](const Tensors& t, float tolerance) {
      check_equal(rms_norm_rounded_twice(t.at("input"), t.at("weights.weight"), 1e-6f),
                  t.at("output"), tolerance);
    });
    for_each_version("layer_norm_modulated", [](const Tensors& t, float tolerance) {
      check_equal(modulated_layer_norm(t.at("input"), t.at("scale"), t.at("shift"), 1e-6f),
                  t.at("output"), tolerance);
    });
  }

  TEST_CASE("group norm with SiLU") {
    for_each_version("group_norm_silu", [](const Tensors& t, float tolerance) {
      const auto x = channels_last(t.at("input"));
      const auto &w = t.at("weights.weight"), &b = t.at("weights.bias");
      check_equal(channels_first(group_norm(x, w, b, 4, 1e-6f, false)), t.at("normed"), tolerance);
      check_equal(channels_first(group_norm(x, w, b, 4, 1e-6f, true)), t.at("output"), tolerance);
    });
  }

  TEST_CASE("rotary embeddings") {
    for_each_version("rope", [](const Tensors& t, float tolerance) {
      check_equal(rope_interleaved(t.at("input"), of_pairs(t.at("cos")), of_pairs(t.at("sin"))),
                  t.at("output"), tolerance);
    });
    for_each_version("qwen_rope", [](const Tensors& t, float tolerance) {
      const auto [c, c_again] = chunk<2>(t.at("cos"));
      const auto [s, s_again] = chunk<2>(t.at("sin"));
      for (const std::string name : {"q", "k"})
        check_equal(swap_heads(rope_half(swap_heads(t.at(name)), c, s)), t.at("output_" + name),
                    tolerance);
    });
  }

  TEST_CASE("convolutions") {
    for (const std::string name : {"conv2d_1x1", "conv2d_3x3"})
      for_each_version(name, [](const Tensors& t, float tolerance) {
        const auto w = channels_last(t.at("weights.weight"));
        const auto y =
            conv2d(channels_last(t.at("input")), w, t.at("weights.bias"), 1, w.shape(1) / 2);
        check_equal(channels_first(y), t.at("output"), tolerance);
      });
    for_each_version("downsample", [](const Tensors& t, float tolerance) {
      const auto y =
          conv2d(channels_last(t.at("input")), channels_last(t.at("weights.conv.weight")),
                 t.at("weights.conv.bias"), 2, Padding{.bottom = 1, .right = 1});
      check_equal(channels_first(y), t.at("output"), tolerance);
    });
  }
}

}  // namespace
}  // namespace klein::ops::test
