#pragma once

#include <optional>

#include "klein/ops/attention.h"
#include "klein/ops/conv.h"
#include "klein/ops/weight.h"
#include "klein/tensor/mlx.h"

/// The operations of this folder made of MLX's own: what runs on GPUs and where no kernel was
/// built, what the kernels are tested against, and what has gradients.
///
/// Each is documented where its twin without `portable` is; shapes are not checked again here. On a
/// GPU, linear and conv2d may round the sum before they add the bias.
namespace klein::ops::portable {

mx::array linear(const mx::array& x, const mx::array& weight,
                 const std::optional<mx::array>& bias = std::nullopt);
mx::array linear(const mx::array& x, const PackedMatrix& weight,
                 const std::optional<mx::array>& bias = std::nullopt);
mx::array unpack(const PackedMatrix& matrix, mx::Dtype dtype);

mx::array attention(const mx::array& q, const mx::array& k, const mx::array& v, float scale,
                    const AttentionMask& mask = {});

mx::array rms_norm(const mx::array& x, const mx::array& weight, float eps);
mx::array rms_norm_rounded_twice(const mx::array& x, const mx::array& weight, float eps);
mx::array modulated_layer_norm(const mx::array& x, const mx::array& scale, const mx::array& shift,
                               float eps);
mx::array group_norm(const mx::array& x, const mx::array& weight, const mx::array& bias, int groups,
                     float eps, bool silu);
mx::array group_moments(const mx::array& x, int groups);
mx::array group_norm_with(const mx::array& x, const mx::array& moments, const mx::array& weight,
                          const mx::array& bias, float eps, bool silu);

mx::array rope_interleaved(const mx::array& x, const mx::array& cosines, const mx::array& sines);
mx::array rope_half(const mx::array& x, const mx::array& cosines, const mx::array& sines);
mx::array rms_norm_rope_interleaved(const mx::array& x, const mx::array& weight, float eps,
                                    const mx::array& cosines, const mx::array& sines);

mx::array columns(const mx::array& x, int begin, int end);

mx::array silu(const mx::array& x);
mx::array levels(const mx::array& pixels);
mx::array swiglu(const mx::array& gate, const mx::array& up);
mx::array swiglu(const mx::array& gate_and_up);
mx::array add(const mx::array& x, const mx::array& y);
mx::array add_gated(const mx::array& x, const mx::array& gate, const mx::array& y);
mx::array add_scaled(const mx::array& x, float scale, const mx::array& y);

mx::array conv2d(const mx::array& x, const mx::array& weight, const std::optional<mx::array>& bias,
                 int stride, Padding padding);
mx::array upsample_nearest_2x(const mx::array& x);

}  // namespace klein::ops::portable
