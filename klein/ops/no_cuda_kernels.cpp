#ifndef KLEIN_CUDA_KERNELS

#include "klein/core/error.h"
#include "klein/ops/cuda/native.h"
#include "klein/ops/cuda/upload.h"
#include "klein/ops/portable.h"

// What a build without CUDA has instead of klein/ops/cuda.
namespace klein::ops::cuda {

bool available() {
  return false;
}

std::uint64_t peak_bytes() {
  return 0;
}

bool has_fp8() {
  return false;
}

bool uploads() {
  return false;
}

mx::array upload(std::span<const std::byte>, const mx::Shape&, mx::Dtype, std::function<void()>) {
  throw Error(ErrorKind::internal, "this build has no GPU to upload to");
}

mx::array upload_at_once(std::span<const std::byte>, const mx::Shape&, mx::Dtype) {
  throw Error(ErrorKind::internal, "this build has no GPU to upload to");
}

void download(const mx::array&, std::span<std::byte>) {
  throw Error(ErrorKind::internal, "this build has no GPU to download from");
}

void finish_uploads() {}

mx::array linear(const mx::array& x, const mx::array& weight,
                 const std::optional<mx::array>& bias) {
  return portable::linear(x, weight, bias);
}

mx::array linear(const mx::array& x, const PackedMatrix& weight,
                 const std::optional<mx::array>& bias) {
  return portable::linear(x, weight, bias);
}

mx::array fp8_product(const PackedMatrix&, const PackedMatrix&) {
  throw Error(ErrorKind::internal, "this build has no 8-bit products");
}

mx::array take_rows(const mx::array& table, const mx::array& ids) {
  return mx::take(table, ids, 0);
}

mx::array unpack(const PackedMatrix& matrix, mx::Dtype dtype) {
  return portable::unpack(matrix, dtype);
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

mx::array rms_norm_rope_interleaved(const mx::array& x, const mx::array& weight, float eps,
                                    const mx::array& cosines, const mx::array& sines) {
  return portable::rms_norm_rope_interleaved(x, weight, eps, cosines, sines);
}

mx::array rms_norm_rope_half(const mx::array& x, const mx::array& weight, float eps,
                             const mx::array& cosines, const mx::array& sines) {
  return portable::rope_half(portable::rms_norm_rounded_twice(x, weight, eps), cosines, sines);
}

mx::array attention(const mx::array& q, const mx::array& k, const mx::array& v, float scale,
                    const AttentionMask& mask) {
  return portable::attention(q, k, v, scale, mask);
}

mx::array columns(const mx::array& x, int begin, int end) {
  return portable::columns(x, begin, end);
}

mx::array concatenate(const std::vector<mx::array>& parts, int axis) {
  return mx::concatenate(parts, axis);
}

mx::array levels(const mx::array& pixels) {
  return portable::levels(pixels);
}

mx::array swiglu(const mx::array& gate_and_up) {
  return portable::swiglu(gate_and_up);
}

mx::array swiglu(const mx::array& gate, const mx::array& up) {
  return portable::swiglu(gate, up);
}

mx::array add_gated(const mx::array& x, const mx::array& gate, const mx::array& y) {
  return portable::add_gated(x, gate, y);
}

mx::array add(const mx::array& x, const mx::array& y) {
  return portable::add(x, y);
}

mx::array conv2d(const mx::array& x, const mx::array& weight, const std::optional<mx::array>& bias,
                 int stride, Padding padding) {
  return portable::conv2d(x, weight, bias, stride, padding);
}

mx::array upsample_nearest_2x(const mx::array& x) {
  return portable::upsample_nearest_2x(x);
}

}  // namespace klein::ops::cuda

#endif
