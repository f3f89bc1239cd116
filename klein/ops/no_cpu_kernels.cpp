#ifndef KLEIN_CPU_KERNELS

#include "klein/ops/cpu/native.h"
#include "klein/ops/portable.h"

namespace klein::ops::native {

mx::array linear(const mx::array& x, const mx::array& weight,
                 const std::optional<mx::array>& bias) {
  return portable::linear(x, weight, bias);
}

mx::array linear(const mx::array& x, const PackedMatrix& weight,
                 const std::optional<mx::array>& bias) {
  return portable::linear(x, weight, bias);
}

mx::array unpack(const PackedMatrix& matrix, mx::Dtype dtype) {
  return portable::unpack(matrix, dtype);
}

mx::array attention(const mx::array& q, const mx::array& k, const mx::array& v, float scale,
                    const AttentionMask& mask) {
  return portable::attention(q, k, v, scale, mask);
}

mx::array rms_norm(const mx::array& x, const mx::array& weight, float eps) {
  return portable::rms_norm(x, weight, eps);
}

mx::array rms_norm_rounded_twice(const mx::array& x, const mx::array& weight, float eps) {
  return portable::rms_norm_rounded_twice(x, weight, eps);
}

mx::array modulated_layer_norm(const mx::array& x, const mx::array& scale, const mx::array& shift,
                               float eps) {
  return portable::modulated_layer_norm(x, scale, shift, eps);
}

mx::array group_norm(const mx::array& x, const mx::array& weight, const mx::array& bias, int groups,
                     float eps, bool silu) {
  return portable::group_norm(x, weight, bias, groups, eps, silu);
}

mx::array group_moments(const mx::array& x, int groups) {
  return portable::group_moments(x, groups);
}

mx::array group_norm_with(const mx::array& x, const mx::array& moments, const mx::array& weight,
                          const mx::array& bias, float eps, bool silu) {
  return portable::group_norm_with(x, moments, weight, bias, eps, silu);
}

mx::array rope_interleaved(const mx::array& x, const mx::array& cosines, const mx::array& sines) {
  return portable::rope_interleaved(x, cosines, sines);
}

mx::array rope_half(const mx::array& x, const mx::array& cosines, const mx::array& sines) {
  return portable::rope_half(x, cosines, sines);
}

mx::array rms_norm_rope_interleaved(const mx::array& x, const mx::array& weight, float eps,
                                    const mx::array& cosines, const mx::array& sines) {
  return portable::rms_norm_rope_interleaved(x, weight, eps, cosines, sines);
}

mx::array silu(const mx::array& x) {
  return portable::silu(x);
}

mx::array swiglu(const mx::array& gate, const mx::array& up) {
  return portable::swiglu(gate, up);
}

mx::array swiglu(const mx::array& gate_and_up) {
  return portable::swiglu(gate_and_up);
}

mx::array add_gated(const mx::array& x, const mx::array& gate, const mx::array& y) {
  return portable::add_gated(x, gate, y);
}

mx::array add_scaled(const mx::array& x, float scale, const mx::array& y) {
  return portable::add_scaled(x, scale, y);
}

mx::array conv2d(const mx::array& x, const mx::array& weight, const std::optional<mx::array>& bias,
                 int stride, Padding padding) {
  return portable::conv2d(x, weight, bias, stride, padding);
}

mx::array upsample_nearest_2x(const mx::array& x) {
  return portable::upsample_nearest_2x(x);
}

}  // namespace klein::ops::native

#endif
