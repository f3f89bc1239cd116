#include "klein/ops/portable.h"

#include <algorithm>
#include <cstdint>
#include <utility>
#include <vector>

namespace klein::ops::portable {
namespace {

mx::array f32(const mx::array& a) {
  return mx::astype(a, mx::float32);
}

bool on_cpu() {
  return mx::default_device() == mx::Device::cpu;
}

const char* mlx_mode(quant::Format format) {
  switch (format) {
    case quant::Format::mxfp4:
      return "mxfp4";
    case quant::Format::mxfp8:
      return "mxfp8";
    case quant::Format::nvfp4:
      return "nvfp4";
    default:
      return "affine";
  }
}

/// x / sqrt(mean(x^2) + eps) over the last axis, in float32.
mx::array unit_rms(const mx::array& x, float eps) {
  const auto wide = f32(x);
  const auto power = mx::mean(mx::square(wide), -1, /*keepdims=*/true);
  return wide * mx::rsqrt(power + mx::array(eps));
}

/// [B, C] or [B, 1, C] -> [B, 1, C]
mx::array per_row(const mx::array& a) {
  return a.ndim() == 2 ? mx::expand_dims(a, 1) : a;
}

/// [L, D/2] -> [1, L, 1, D/2]
mx::array per_head(const mx::array& table) {
  return mx::expand_dims(table, {0, 2});
}

/// [B, H, W, C] -> [B, H * W, groups, C / groups], in float32.
mx::array by_group(const mx::array& x, int groups) {
  return mx::reshape(f32(x), {x.shape(0), -1, groups, x.shape(3) / groups});
}

/// [B or 1, 1, L or 1, S]: true where a query sees a key.
mx::array visible_keys(const AttentionMask& mask, int queries, int keys) {
  auto seen = mx::array(true);
  const auto key = mx::reshape(mx::arange(keys), {1, 1, 1, keys});
  if (mask.causal) seen = key <= mx::reshape(mx::arange(queries), {1, 1, queries, 1});
  if (!mask.key_lengths.empty()) {
    const int batch = static_cast<int>(mask.key_lengths.size());
    const mx::array lengths(mask.key_lengths.data(), {batch, 1, 1, 1}, mx::int32);
    seen = mx::logical_and(seen, key < lengths);
  }
  return seen;
}

}  // namespace

mx::array linear(const mx::array& x, const mx::array& weight,
                 const std::optional<mx::array>& bias) {
  // MLX rounds a bfloat16 product on the CPU before a bias could be added.
  const bool widen = on_cpu() || x.dtype() != weight.dtype();
  const auto cast = [&](const mx::array& a) { return widen ? f32(a) : mx::astype(a, x.dtype()); };
  const auto transposed = mx::transpose(cast(weight));
  const auto y =
      bias ? mx::addmm(cast(*bias), cast(x), transposed) : mx::matmul(cast(x), transposed);
  return mx::astype(y, x.dtype());
}

mx::array linear(const mx::array& x, const PackedMatrix& weight,
                 const std::optional<mx::array>& bias) {
  // MLX's own quantized product is made for a few rows of x; pictures have thousands.
  return linear(x, portable::unpack(weight, x.dtype()), bias);
}

mx::array unpack(const PackedMatrix& m, mx::Dtype dtype) {
  if (is_mlx_format(m)) {
    const bool affine = m.layout.format == quant::Format::affine;
    const auto wide = affine ? f32(*m.scales) : *m.scales;
    const auto biases = m.biases ? std::optional(f32(*m.biases)) : std::nullopt;
    return mx::astype(mx::dequantize(m.codes, wide, biases, m.layout.group_size, m.layout.bits,
                                     mlx_mode(m.layout.format), std::nullopt, mx::float32),
                      dtype);
  }
  if (!on_cpu() && m.layout.format == quant::Format::fp8_e4m3 && m.scales && !m.column_scales)
    return mx::astype(mx::from_fp8(m.codes, mx::float32) * f32(*m.scales), dtype);
  // Weights are constants, so they may be decoded when the graph is built.
  std::vector<mx::array> parts{m.codes};
  for (const auto* part : {&m.scales, &m.biases, &m.column_scales})
    if (*part) parts.push_back(**part);
  mx::eval(parts);
  const auto count = static_cast<std::size_t>(m.rows) * static_cast<std::size_t>(m.columns);
  std::vector<float> numbers(count);
  quant::decode_rows(m.view(), 0, m.rows, numbers.data());
  return mx::astype(mx::array(numbers.data(), {m.rows, m.columns}, mx::float32), dtype);
}

mx::array attention(const mx::array& q, const mx::array& k, const mx::array& v, float scale,
                    const AttentionMask& mask) {
  const auto heads_first = [](const mx::array& a) {
    const auto moved = mx::transpose(a, {0, 2, 1, 3});
    return on_cpu() ? f32(moved) : moved;
  };
  const auto run = [&](const std::string& mode, const std::optional<mx::array>& seen) {
    return mx::fast::scaled_dot_product_attention(heads_first(q), heads_first(k), heads_first(v),
                                                  scale, mode, seen);
  };
  const auto finish = [&](const mx::array& out) {
    return mx::astype(mx::transpose(out, {0, 2, 1, 3}), q.dtype());
  };
  if (mask.key_lengths.empty()) return finish(run(mask.causal ? "causal" : "", std::nullopt));

  const auto seen = visible_keys(mask, q.shape(1), k.shape(1));
  const auto out = run("array", seen);
  // A row without any key would be 0/0.
  return finish(mx::where(mx::any(seen, -1, /*keepdims=*/true), out, scalar_like(out, 0.0f)));
}

mx::array rms_norm(const mx::array& x, const mx::array& weight, float eps) {
  return mx::astype(unit_rms(x, eps) * f32(weight), x.dtype());
}

mx::array rms_norm_rounded_twice(const mx::array& x, const mx::array& weight, float eps) {
  return mx::astype(unit_rms(x, eps), x.dtype()) * mx::astype(weight, x.dtype());
}

mx::array modulated_layer_norm(const mx::array& x, const mx::array& scale, const mx::array& shift,
                               float eps) {
  const auto wide = f32(x);
  const auto centred = wide - mx::mean(wide, -1, /*keepdims=*/true);
  const auto variance = mx::mean(mx::square(centred), -1, /*keepdims=*/true);
  const auto normed = mx::astype(centred * mx::rsqrt(variance + mx::array(eps)), x.dtype());
  const auto factor = scalar_like(scale, 1.0f) + scale;
  return normed * per_row(factor) + per_row(shift);
}

mx::array group_norm(const mx::array& x, const mx::array& weight, const mx::array& bias, int groups,
                     float eps, bool silu) {
  return portable::group_norm_with(x, portable::group_moments(x, groups), weight, bias, eps, silu);
}

mx::array group_moments(const mx::array& x, int groups) {
  const auto wide = by_group(x, groups);
  const auto mean = mx::mean(wide, {1, 3}, /*keepdims=*/true);
  const auto variance = mx::mean(mx::square(wide - mean), {1, 3}, /*keepdims=*/true);
  return mx::reshape(mx::concatenate({mean, variance}, 3), {x.shape(0), groups, 2});
}

mx::array group_norm_with(const mx::array& x, const mx::array& moments, const mx::array& weight,
                          const mx::array& bias, float eps, bool silu) {
  const auto [mean, variance] = chunk<2>(mx::expand_dims(moments, 1));  // [B, 1, groups, 1]
  const auto centred = by_group(x, moments.shape(1)) - mean;
  const auto unit = mx::reshape(centred * mx::rsqrt(variance + mx::array(eps)), x.shape());
  const auto normed = mx::astype(unit * f32(weight) + f32(bias), x.dtype());
  return silu ? portable::silu(normed) : normed;
}

mx::array rope_interleaved(const mx::array& x, const mx::array& cosines, const mx::array& sines) {
  auto pairs = x.shape();
  pairs.back() /= 2;
  pairs.push_back(2);
  const auto parts = mx::split(mx::reshape(f32(x), pairs), 2, -1);
  const auto even = mx::squeeze(parts[0], -1), odd = mx::squeeze(parts[1], -1);
  const auto c = per_head(f32(cosines)), s = per_head(f32(sines));
  const auto turned = mx::stack({even * c - odd * s, odd * c + even * s}, -1);
  return mx::astype(mx::reshape(turned, x.shape()), x.dtype());
}

mx::array rope_half(const mx::array& x, const mx::array& cosines, const mx::array& sines) {
  const auto [first, second] = chunk<2>(x);
  const auto c = per_head(cosines), s = per_head(sines);
  return mx::concatenate({first * c - second * s, second * c + first * s}, -1);
}

mx::array rms_norm_rope_interleaved(const mx::array& x, const mx::array& weight, float eps,
                                    const mx::array& cosines, const mx::array& sines) {
  return portable::rope_interleaved(portable::rms_norm(x, weight, eps), cosines, sines);
}

mx::array columns(const mx::array& x, int begin, int end) {
  return mx::slice(x, {0, 0, begin}, {x.shape(0), x.shape(1), end});
}

mx::array silu(const mx::array& x) {
  const auto wide = f32(x);
  return mx::astype(wide * mx::sigmoid(wide), x.dtype());
}

mx::array levels(const mx::array& pixels) {
  const auto half = scalar_like(pixels, 0.5f);
  const auto unit =
      mx::clip(pixels * half + half, scalar_like(pixels, 0.0f), scalar_like(pixels, 1.0f));
  return mx::astype(mx::round(f32(unit) * mx::array(255.0f)), mx::uint8);
}

mx::array swiglu(const mx::array& gate, const mx::array& up) {
  return portable::silu(gate) * up;
}

mx::array swiglu(const mx::array& gate_and_up) {
  const auto [gate, up] = chunk<2>(gate_and_up);
  return portable::swiglu(gate, up);
}

mx::array add(const mx::array& x, const mx::array& y) {
  return x + y;
}

mx::array add_gated(const mx::array& x, const mx::array& gate, const mx::array& y) {
  return x + per_row(gate) * y;
}

mx::array add_scaled(const mx::array& x, float scale, const mx::array& y) {
  return x + mx::astype(f32(y) * mx::array(scale), x.dtype());
}

mx::array conv2d(const mx::array& x, const mx::array& weight, const std::optional<mx::array>& bias,
                 int stride, Padding padding) {
  const bool widen = on_cpu() || x.dtype() != weight.dtype();
  const auto cast = [&](const mx::array& a) { return widen ? f32(a) : mx::astype(a, x.dtype()); };
  // Padding inside the convolution spares a copy, but takes equal sides only.
  const auto [top, bottom, left, right] = padding;
  const bool even = top == bottom && left == right;
  const auto input =
      even ? cast(x) : mx::pad(cast(x), {{0, 0}, {top, bottom}, {left, right}, {0, 0}});
  auto y = mx::conv2d(input, cast(weight), {stride, stride},
                      even ? std::pair{top, left} : std::pair{0, 0});
  if (bias) y = y + cast(*bias);
  return mx::astype(y, x.dtype());
}

mx::array upsample_nearest_2x(const mx::array& x) {
  return mx::repeat(mx::repeat(x, 2, 1), 2, 2);
}

}  // namespace klein::ops::portable
