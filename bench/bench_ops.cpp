// Operations at the sizes of FLUX.2 Klein 4B drawing 256x256: 512 text + 256 image tokens, 24 heads
// of 128; Qwen3-4B with 512 tokens; the VAE decoder; and the sizes of a tiny model.
// The counter "GFLOP/s" counts a multiply and an addition as two; "GB/s" what is read and written.
#include <cmath>
#include <string>

#include <benchmark/benchmark.h>

#include "klein/ops/attention.h"
#include "klein/ops/backend.h"
#include "klein/ops/conv.h"
#include "klein/ops/elementwise.h"
#include "klein/ops/linear.h"
#include "klein/ops/norm.h"
#include "klein/ops/rope.h"

namespace {

namespace mx = mlx::core;
namespace ops = klein::ops;

mx::array noise(const mx::Shape& shape, mx::Dtype dtype, float scale = 1.0f) {
  auto a = mx::astype(mx::random::normal(shape, mx::float32, mx::random::key(7)) * mx::array(scale),
                      dtype);
  mx::eval(a);
  return a;
}

/// Evaluates `make()` again and again; `flop` or `bytes` of one run become a rate.
template <typename Make>
void measure(benchmark::State& state, const std::string& rate, double amount, const Make& make) {
  ops::set_backend(ops::Backend::native);
  mx::eval(make());
  for (auto _ : state) mx::eval(make());
  state.counters[rate] = benchmark::Counter(amount * 1e-9 * static_cast<double>(state.iterations()),
                                            benchmark::Counter::kIsRate);
}

double size(const mx::array& a) {
  return static_cast<double>(a.nbytes());
}

void linear(benchmark::State& state, mx::Dtype x_type, mx::Dtype w_type) {
  const auto m = static_cast<int>(state.range(0)), k = static_cast<int>(state.range(1)),
             n = static_cast<int>(state.range(2));
  const auto x = noise({m, k}, x_type), w = noise({n, k}, w_type, 0.02f);
  measure(state, "GFLOP/s", 2.0 * m * k * n, [&] { return ops::linear(x, w); });
}

void linear_sizes(benchmark::internal::Benchmark* b) {
  b->Args({768, 3072, 27648})->Args({768, 12288, 3072})->Args({256, 3072, 3072});
  b->Args({512, 2560, 9728})->Args({320, 256, 256})->Args({320, 256, 2304});
  b->Args({1, 3072, 18432})->Args({1, 256, 1536});
  b->UseRealTime()->MeasureProcessCPUTime()->Unit(benchmark::kMillisecond);
}

BENCHMARK_CAPTURE(linear, f32, mx::float32, mx::float32)->Apply(linear_sizes);
BENCHMARK_CAPTURE(linear, bf16, mx::bfloat16, mx::bfloat16)->Apply(linear_sizes);
BENCHMARK_CAPTURE(linear, f32_bf16_weights, mx::float32, mx::bfloat16)->Apply(linear_sizes);

void attention(benchmark::State& state, mx::Dtype dtype, bool causal) {
  const auto tokens = static_cast<int>(state.range(0)), heads = static_cast<int>(state.range(1)),
             kv_heads = static_cast<int>(state.range(2)), width = static_cast<int>(state.range(3));
  const auto q = noise({1, tokens, heads, width}, dtype);
  const auto k = noise({1, tokens, kv_heads, width}, dtype);
  const ops::AttentionMask mask = {.causal = causal};
  const float scale = 1.0f / std::sqrt(static_cast<float>(width));
  measure(state, "GFLOP/s", 4.0 * tokens * tokens * heads * width / (causal ? 2 : 1),
          [&] { return ops::attention(q, k, k, scale, mask); });
}

void attention_sizes(benchmark::internal::Benchmark* b) {
  b->Args({768, 24, 24, 128})->Args({4608, 24, 24, 128})->Args({1024, 1, 1, 512});
  b->Args({320, 4, 4, 64})->UseRealTime()->MeasureProcessCPUTime()->Unit(benchmark::kMillisecond);
}

BENCHMARK_CAPTURE(attention, f32, mx::float32, false)->Apply(attention_sizes);
BENCHMARK_CAPTURE(attention, bf16, mx::bfloat16, false)->Apply(attention_sizes);
BENCHMARK_CAPTURE(attention, bf16_causal, mx::bfloat16, true)
    ->Args({512, 32, 8, 128})
    ->UseRealTime()
    ->MeasureProcessCPUTime()
    ->Unit(benchmark::kMillisecond);

void modulated_layer_norm(benchmark::State& state, mx::Dtype dtype) {
  const auto x = noise({1, 768, 3072}, dtype), m = noise({1, 3072}, dtype);
  measure(state, "GB/s", 2 * size(x), [&] { return ops::modulated_layer_norm(x, m, m, 1e-6f); });
}

void rms_norm_rope(benchmark::State& state, mx::Dtype dtype) {
  const auto x = noise({1, 768, 24, 128}, dtype), w = noise({128}, dtype);
  const auto table = noise({768, 64}, mx::float32);
  measure(state, "GB/s", 2 * size(x),
          [&] { return ops::rms_norm_rope_interleaved(x, w, 1e-6f, table, table); });
}

void rope_half(benchmark::State& state, mx::Dtype dtype) {
  const auto x = noise({1, 512, 32, 128}, dtype), table = noise({512, 64}, dtype);
  measure(state, "GB/s", 2 * size(x), [&] { return ops::rope_half(x, table, table); });
}

void swiglu(benchmark::State& state, mx::Dtype dtype) {
  const auto wide = noise({1, 768, 27648}, dtype);
  const auto x = mx::slice(wide, {0, 0, 9216}, {1, 768, 27648});
  measure(state, "GB/s", 1.5 * size(x), [&] { return ops::swiglu(x); });
}

void add_gated(benchmark::State& state, mx::Dtype dtype) {
  const auto x = noise({1, 768, 3072}, dtype), gate = noise({1, 3072}, dtype);
  measure(state, "GB/s", 3 * size(x), [&] { return ops::add_gated(x, gate, x); });
}

void group_norm_silu(benchmark::State& state, mx::Dtype dtype) {
  const auto side = static_cast<int>(state.range(0)), channels = static_cast<int>(state.range(1));
  const auto x = noise({1, side, side, channels}, dtype), w = noise({channels}, dtype);
  measure(state, "GB/s", 2 * size(x), [&] { return ops::group_norm(x, w, w, 32, 1e-6f, true); });
}

void conv2d(benchmark::State& state, mx::Dtype dtype) {
  const auto side = static_cast<int>(state.range(0)), in = static_cast<int>(state.range(1)),
             out = static_cast<int>(state.range(2)), kernel = static_cast<int>(state.range(3));
  const auto x = noise({1, side, side, in}, dtype), bias = noise({out}, dtype);
  const auto w = noise({out, kernel, kernel, in}, dtype, 0.02f);
  measure(state, "GFLOP/s", 2.0 * side * side * in * out * kernel * kernel,
          [&] { return ops::conv2d(x, w, bias, 1, kernel / 2); });
}

void upsample(benchmark::State& state, mx::Dtype dtype) {
  const auto x = noise({1, 128, 128, 256}, dtype);
  measure(state, "GB/s", 5 * size(x), [&] { return ops::upsample_nearest_2x(x); });
}

void conv_sizes(benchmark::internal::Benchmark* b) {
  b->Args({32, 512, 512, 3})->Args({64, 512, 512, 3})->Args({128, 512, 512, 3});
  b->Args({128, 512, 256, 1})->Args({256, 256, 256, 3})->Args({256, 128, 128, 3});
  b->Args({256, 128, 3, 3})->Args({32, 32, 512, 3})->Args({256, 32, 32, 3});
  b->UseRealTime()->MeasureProcessCPUTime()->Unit(benchmark::kMillisecond);
}

void norm_sizes(benchmark::internal::Benchmark* b) {
  b->Args({256, 128})
      ->Args({128, 512})
      ->UseRealTime()
      ->MeasureProcessCPUTime()
      ->Unit(benchmark::kMillisecond);
}

void once(benchmark::internal::Benchmark* b) {
  b->UseRealTime()->MeasureProcessCPUTime()->Unit(benchmark::kMillisecond);
}

BENCHMARK_CAPTURE(modulated_layer_norm, bf16, mx::bfloat16)->Apply(once);
BENCHMARK_CAPTURE(modulated_layer_norm, f32, mx::float32)->Apply(once);
BENCHMARK_CAPTURE(rms_norm_rope, bf16, mx::bfloat16)->Apply(once);
BENCHMARK_CAPTURE(rms_norm_rope, f32, mx::float32)->Apply(once);
BENCHMARK_CAPTURE(rope_half, bf16, mx::bfloat16)->Apply(once);
BENCHMARK_CAPTURE(swiglu, bf16, mx::bfloat16)->Apply(once);
BENCHMARK_CAPTURE(swiglu, f32, mx::float32)->Apply(once);
BENCHMARK_CAPTURE(add_gated, bf16, mx::bfloat16)->Apply(once);
BENCHMARK_CAPTURE(group_norm_silu, bf16, mx::bfloat16)->Apply(norm_sizes);
BENCHMARK_CAPTURE(group_norm_silu, f32, mx::float32)->Apply(norm_sizes);
BENCHMARK_CAPTURE(conv2d, f32, mx::float32)->Apply(conv_sizes);
BENCHMARK_CAPTURE(conv2d, bf16, mx::bfloat16)->Apply(conv_sizes);
BENCHMARK_CAPTURE(upsample, bf16, mx::bfloat16)->Apply(once);

}  // namespace

BENCHMARK_MAIN();
