#pragma once

#include <cstdint>
#include <optional>
#include <vector>

#include "klein/ops/attention.h"
#include "klein/ops/conv.h"
#include "klein/ops/weight.h"
#include "klein/tensor/mlx.h"

/// The operations of this folder's parent as kernels for NVIDIA GPUs.
///
/// Each is documented where its twin without `cuda` is; shapes are not checked again here, and
/// everything is bfloat16 but for the tables of rms_norm_rope_interleaved and for moments. What a
/// kernel cannot do (odd sizes, GPUs older than Ampere) goes to the portable version, which
/// gradients are those of.
namespace klein::ops::cuda {

/// Whether these kernels may be asked at all: built in, and an NVIDIA GPU that has them.
bool available();

/// The most memory that the process has held of the GPU's pool.
std::uint64_t peak_bytes();

/// Whether the GPU multiplies 8-bit numbers.
bool has_fp8();

mx::array linear(const mx::array& x, const mx::array& weight,
                 const std::optional<mx::array>& bias = std::nullopt);
mx::array linear(const mx::array& x, const PackedMatrix& weight,
                 const std::optional<mx::array>& bias = std::nullopt);
mx::array unpack(const PackedMatrix& matrix, mx::Dtype dtype);

/// x W^T where both are e4m3 with a scale for each row: what linear does once it has rounded x.
mx::array fp8_product(const PackedMatrix& x, const PackedMatrix& weight);
mx::array take_rows(const mx::array& table, const mx::array& ids);

mx::array rms_norm_rounded_twice(const mx::array& x, const mx::array& weight, float eps);
mx::array modulated_layer_norm(const mx::array& x, const mx::array& scale, const mx::array& shift,
                               float eps);
mx::array group_norm(const mx::array& x, const mx::array& weight, const mx::array& bias, int groups,
                     float eps, bool silu);
mx::array group_moments(const mx::array& x, int groups);
mx::array group_norm_with(const mx::array& x, const mx::array& moments, const mx::array& weight,
                          const mx::array& bias, float eps, bool silu);

mx::array rms_norm_rope_interleaved(const mx::array& x, const mx::array& weight, float eps,
                                    const mx::array& cosines, const mx::array& sines);
mx::array rms_norm_rope_half(const mx::array& x, const mx::array& weight, float eps,
                             const mx::array& cosines, const mx::array& sines);

mx::array attention(const mx::array& q, const mx::array& k, const mx::array& v, float scale,
                    const AttentionMask& mask);

mx::array columns(const mx::array& x, int begin, int end);
mx::array concatenate(const std::vector<mx::array>& parts, int axis);

mx::array levels(const mx::array& pixels);
mx::array swiglu(const mx::array& gate, const mx::array& up);
mx::array swiglu(const mx::array& gate_and_up);
mx::array add_gated(const mx::array& x, const mx::array& gate, const mx::array& y);

mx::array add(const mx::array& x, const mx::array& y);

mx::array conv2d(const mx::array& x, const mx::array& weight, const std::optional<mx::array>& bias,
                 int stride, Padding padding);
mx::array upsample_nearest_2x(const mx::array& x);

}  // namespace klein::ops::cuda
