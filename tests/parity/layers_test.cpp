// Layers against torch, diffusers and transformers; fixtures by reference/make_fixtures.py.

#include <cmath>

#include <doctest/doctest.h>

#include "klein/models/flux2/blocks.h"
#include "klein/models/flux2/latents.h"
#include "klein/nn/conv.h"
#include "klein/nn/embedding.h"
#include "klein/nn/linear.h"
#include "klein/nn/norm.h"
#include "klein/nn/rope.h"
#include "klein/nn/swiglu.h"
#include "klein/ops/attention.h"
#include "klein/ops/elementwise.h"
#include "klein/ops/norm.h"
#include "klein/ops/rope.h"
#include "support/json.h"
#include "support/tensors.h"

namespace klein {
namespace {

using test::check_close;
using test::kEqual;
using test::nhwc;
using test::position_ids;

/// A fixture in both precisions, with the tolerance of each; see docs/numerics.md.
struct Case {
  test::Fixture f;
  mx::Dtype dtype;
  float tolerance;
};

std::vector<Case> cases(const std::string& name, float bfloat16_tolerance) {
  return {{test::fixture(name), mx::float32, test::kFloat32},
          {test::fixture(name + "_bf16"), mx::bfloat16, bfloat16_tolerance}};
}

mx::array token_major(const mx::array& a) {
  return mx::transpose(a, {0, 2, 1, 3});
}

/// The reference repeats every value for both halves of a pair.
mx::array every_second(const mx::array& table) {
  return mx::slice(table, {0, 0}, table.shape(), {1, 2});
}

TEST_SUITE("parity/layers") {
  TEST_CASE("linear layers equal torch") {
    for (const auto& c : cases("nn/linear", kEqual)) {
      nn::Linear layer(24, 40);
      layer.weight = c.f.weights.at("weight");
      check_close(layer(c.f["input"]), c.f["output"], c.tolerance, c.f.name);
    }
    for (const auto& c : cases("nn/linear_bias", kEqual)) {
      nn::Linear layer(24, 40, /*with_bias=*/true);
      layer.weight = c.f.weights.at("weight");
      layer.bias = c.f.weights.at("bias");
      check_close(layer(c.f["input"]), c.f["output"], c.tolerance, c.f.name);
    }
  }

  TEST_CASE("norms equal torch and transformers") {
    for (const auto& c : cases("nn/rms_norm", kEqual))
      check_close(ops::rms_norm(c.f["input"], c.f.weights.at("weight"), 1e-6f), c.f["output"],
                  c.tolerance, c.f.name);
    for (const auto& c : cases("nn/qwen_rms_norm", kEqual))
      check_close(ops::rms_norm_rounded_twice(c.f["input"], c.f.weights.at("weight"), 1e-6f),
                  c.f["output"], c.tolerance, c.f.name);
    for (const auto& c : cases("nn/layer_norm_modulated", kEqual))
      check_close(ops::modulated_layer_norm(c.f["input"], c.f["scale"], c.f["shift"], 1e-6f),
                  c.f["output"], c.tolerance, c.f.name);
    for (const auto& c : cases("nn/group_norm_silu", kEqual)) {
      nn::GroupNorm norm(test::fixture_json("nn/group_norm_silu").at("groups"), 16);
      test::fill(norm, c.f, c.dtype);
      check_close(norm(nhwc(c.f["input"])), nhwc(c.f["normed"]), c.tolerance, c.f.name);
      check_close(norm(nhwc(c.f["input"]), true), nhwc(c.f["output"]), c.tolerance, c.f.name);
    }
  }

  TEST_CASE("the timestep embedding equals diffusers") {
    for (const auto& c : cases("nn/timestep_embedding", kEqual)) {
      struct Root {
        nn::TimestepEmbedder timestep_embedder{256, 24};
        void visit(nn::Visitor& v) { v.child("timestep_embedder", timestep_embedder); }
      } root;
      test::fill(root, c.f, c.dtype);
      const auto sinusoid = nn::sinusoidal_embedding(c.f["timestep"], 256);
      // At t = 1000 one unit in the last place of a frequency turns the angle by 6e-5, and torch's
      // exp is such a unit off the correctly rounded one in 2 of the 128 frequencies.
      check_close(sinusoid, c.f["sinusoid"], 4e-5f, c.f.name + " sinusoid");
      check_close(root.timestep_embedder(mx::astype(sinusoid, c.dtype)), c.f["output"], c.tolerance,
                  c.f.name);
    }
  }

  TEST_CASE("rotary positions equal diffusers") {
    for (const std::string name : {"nn/rope", "nn/rope_uneven"}) {
      for (const auto& c : cases(name, kEqual)) {
        std::array<int, 4> axes = {8, 8, 8, 8};
        if (name == "nn/rope_uneven") axes = {4, 4, 8, 16};
        const auto tables = nn::rope_tables(position_ids(c.f["ids"]), axes, 2000.0);
        check_close(tables.cosines, every_second(c.f["cos"]), test::kFloat32, c.f.name + " cos");
        check_close(tables.sines, every_second(c.f["sin"]), test::kFloat32, c.f.name + " sin");
        check_close(ops::rope_interleaved(c.f["input"], tables.cosines, tables.sines),
                    c.f["output"], c.tolerance, c.f.name);
      }
    }
    const auto f = test::fixture("nn/rope_klein");
    const auto tables = nn::rope_tables(position_ids(f["ids"]), {32, 32, 32, 32}, 2000.0);
    check_close(tables.cosines, every_second(f["cos"]), test::kFloat32, f.name + " cos");
    check_close(tables.sines, every_second(f["sin"]), test::kFloat32, f.name + " sin");
  }

  TEST_CASE("rotary positions of the text encoder equal transformers") {
    for (const auto& c : cases("nn/qwen_rope", kEqual)) {
      const auto all = nn::rope_tables(2048, 16, 1e6f, c.dtype);
      const nn::RopeTables tables{mx::take(all.cosines, c.f["positions"], 0),
                                  mx::take(all.sines, c.f["positions"], 0)};
      const auto rotated = [&](const char* name) {
        return token_major(ops::rope_half(token_major(c.f[name]), tables.cosines, tables.sines));
      };
      check_close(rotated("q"), c.f["output_q"], c.tolerance, c.f.name + " q");
      check_close(rotated("k"), c.f["output_k"], c.tolerance, c.f.name + " k");
    }
  }

  TEST_CASE("attention equals torch") {
    const auto attended = [](const test::Fixture& f, const ops::AttentionMask& mask) {
      const auto q = token_major(f["q"]);
      const float scale = 1.0f / std::sqrt(static_cast<float>(q.shape(3)));
      return token_major(ops::attention(q, token_major(f["k"]), token_major(f["v"]), scale, mask));
    };
    for (const std::string name : {"nn/attention", "nn/attention_long"})
      for (const auto& c : cases(name, 8e-3f))
        check_close(attended(c.f, {}), c.f["output"], c.tolerance, c.f.name);
    for (const auto& c : cases("nn/attention_causal_padded", 8e-3f)) {
      const auto counts = mx::astype(mx::sum(c.f["attention_mask"], 1), mx::int32);
      const std::vector<int> lengths = {mx::take(counts, 0).item<int>(),
                                        mx::take(counts, 1).item<int>()};
      check_close(attended(c.f, {.causal = true, .key_lengths = lengths}), c.f["output"],
                  c.tolerance, c.f.name);
    }
  }

  TEST_CASE("feed-forward and modulation equal diffusers") {
    for (const auto& c : cases("nn/swiglu", kEqual)) {
      nn::SwiGLU layer(24, 72);
      test::fill(layer, c.f, c.dtype);
      check_close(layer(c.f["input"]), c.f["output"], c.tolerance, c.f.name);
    }
    for (const int parts : {1, 2}) {
      for (const auto& c : cases("nn/modulation_" + std::to_string(parts), kEqual)) {
        flux2::Modulation modulation(24, parts);
        test::fill(modulation, c.f, c.dtype);
        const auto result = modulation(ops::silu(c.f["input"]));
        for (int i = 0; i < parts; ++i) {
          const auto& part = result[static_cast<std::size_t>(i)];
          const auto number = "_" + std::to_string(i);
          const auto flat = [&](const char* name) { return mx::squeeze(c.f[name + number], 1); };
          check_close(part.shift, flat("shift"), c.tolerance, c.f.name + " shift");
          check_close(part.scale, flat("scale"), c.tolerance, c.f.name + " scale");
          check_close(part.gate, flat("gate"), c.tolerance, c.f.name + " gate");
        }
      }
    }
  }

  TEST_CASE("convolutions equal torch") {
    for (const auto& c : cases("nn/conv2d_3x3", kEqual)) {
      struct Root {
        nn::Conv2d conv{5, 7, 3};
        void visit(nn::Visitor& v) { v.conv("conv", conv); }
      } root;
      auto f = c.f;
      f.weights = {{"conv.weight", c.f.weights.at("weight")},
                   {"conv.bias", c.f.weights.at("bias")}};
      test::fill(root, f, c.dtype);
      check_close(root.conv(nhwc(c.f["input"])), nhwc(c.f["output"]), c.tolerance, c.f.name);
    }
    for (const auto& c : cases("nn/downsample", kEqual)) {
      nn::Downsample layer(6);
      test::fill(layer, c.f, c.dtype);
      check_close(layer(nhwc(c.f["input"])), nhwc(c.f["output"]), c.tolerance, c.f.name);
    }
    for (const auto& c : cases("nn/upsample", kEqual)) {
      nn::Upsample layer(6);
      test::fill(layer, c.f, c.dtype);
      check_close(layer(nhwc(c.f["input"])), nhwc(c.f["output"]), c.tolerance, c.f.name);
    }
  }
}

}  // namespace
}  // namespace klein
