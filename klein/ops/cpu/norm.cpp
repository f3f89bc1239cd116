#include <cmath>

#include "klein/ops/cpu/kernel.h"
#include "klein/ops/cpu/native.h"
#include "klein/ops/cpu/row_norm.h"
#include "klein/ops/cpu/scalar.h"
#include "klein/ops/portable.h"

namespace klein::ops::native {
namespace {

template <typename T>
KLEIN_INLINE void rms_loop(const T* x, const float* weight, float eps, T* out, std::int64_t n) {
  const float inverse = inverse_rms(x, eps, n);
#pragma omp simd
  for (std::int64_t i = 0; i < n; ++i) out[i] = round_to<T>(to_float(x[i]) * inverse * weight[i]);
}

KLEIN_CLONES void rms_row(const float* x, const float* weight, float eps, float* out,
                          std::int64_t n) {
  rms_loop(x, weight, eps, out, n);
}
KLEIN_CLONES void rms_row(const Bf16* x, const float* weight, float eps, Bf16* out,
                          std::int64_t n) {
  rms_loop(x, weight, eps, out, n);
}

KLEIN_CLONES void rms_row_rounded_twice(const Bf16* x, const float* weight, float eps, Bf16* out,
                                        std::int64_t n) {
  const float inverse = inverse_rms(x, eps, n);
#pragma omp simd
  for (std::int64_t i = 0; i < n; ++i)
    out[i] = round_to<Bf16>(through<Bf16>(to_float(x[i]) * inverse) * weight[i]);
}
void rms_row_rounded_twice(const float* x, const float* weight, float eps, float* out,
                           std::int64_t n) {
  rms_row(x, weight, eps, out, n);
}

template <typename T>
KLEIN_INLINE void modulate_loop(const T* x, const T* scale, const T* shift, float eps, T* out,
                                std::int64_t n) {
  float sum = 0.0f, square = 0.0f;
#pragma omp simd reduction(+ : sum)
  for (std::int64_t i = 0; i < n; ++i) sum += to_float(x[i]);
  const float mean = sum / static_cast<float>(n);
  // A second pass over the row, which lies in the cache: the square of a large mean would drown
  // the variance.
#pragma omp simd reduction(+ : square)
  for (std::int64_t i = 0; i < n; ++i) {
    const float d = to_float(x[i]) - mean;
    square += d * d;
  }
  const float inverse = 1.0f / std::sqrt(square / static_cast<float>(n) + eps);
#pragma omp simd
  for (std::int64_t i = 0; i < n; ++i) {
    const float normed = through<T>((to_float(x[i]) - mean) * inverse);
    const float scaled = through<T>(normed * through<T>(1.0f + to_float(scale[i])));
    out[i] = round_to<T>(scaled + to_float(shift[i]));
  }
}

KLEIN_CLONES void modulate_row(const float* x, const float* scale, const float* shift, float eps,
                               float* out, std::int64_t n) {
  modulate_loop(x, scale, shift, eps, out, n);
}
KLEIN_CLONES void modulate_row(const Bf16* x, const Bf16* scale, const Bf16* shift, float eps,
                               Bf16* out, std::int64_t n) {
  modulate_loop(x, scale, shift, eps, out, n);
}

template <typename T>
void run_rms(const mx::array& x, const mx::array& weight, float eps, bool twice, T* to) {
  const Rows rows(x);
  auto factors = floats_of(weight);
  if (twice)
    for (auto& factor : factors) factor = through<T>(factor);
  const auto n = rows.length();
  parallel_ranges(rows.count(), n * 2 * std::int64_t{sizeof(T)}, [&](auto begin, auto end) {
    for (auto i = begin; i < end; ++i)
      if (twice)
        rms_row_rounded_twice(rows.row<T>(i), factors.data(), eps, to + i * n, n);
      else
        rms_row(rows.row<T>(i), factors.data(), eps, to + i * n, n);
  });
}

template <typename T>
void run_modulate(const std::vector<mx::array>& in, float eps, T* to) {
  const Rows rows(in[0]), scales(in[1]), shifts(in[2]);
  const std::int64_t n = rows.length(), tokens = in[0].shape(1);
  parallel_ranges(rows.count(), n * 2 * std::int64_t{sizeof(T)}, [&](auto begin, auto end) {
    for (auto i = begin; i < end; ++i)
      modulate_row(rows.row<T>(i), scales.row<T>(i / tokens), shifts.row<T>(i / tokens), eps,
                   to + i * n, n);
  });
}

}  // namespace

mx::array rms_norm(const mx::array& x, const mx::array& weight, float eps) {
  const auto body = [eps](const std::vector<mx::array>& in, mx::array& out) {
    with_type(out.dtype(),
              [&](auto type) { run_rms(in[0], in[1], eps, false, out.data<decltype(type)>()); });
  };
  const auto twin = [eps](const std::vector<mx::array>& in) {
    return portable::rms_norm(in[0], in[1], eps);
  };
  return cpu_kernel("rms_norm", {x, weight}, x.shape(), x.dtype(), body, twin);
}

mx::array rms_norm_rounded_twice(const mx::array& x, const mx::array& weight, float eps) {
  const auto body = [eps](const std::vector<mx::array>& in, mx::array& out) {
    with_type(out.dtype(),
              [&](auto type) { run_rms(in[0], in[1], eps, true, out.data<decltype(type)>()); });
  };
  const auto twin = [eps](const std::vector<mx::array>& in) {
    return portable::rms_norm_rounded_twice(in[0], in[1], eps);
  };
  return cpu_kernel("rms_norm_rounded_twice", {x, weight}, x.shape(), x.dtype(), body, twin);
}

mx::array modulated_layer_norm(const mx::array& x, const mx::array& scale, const mx::array& shift,
                               float eps) {
  const auto body = [eps](const std::vector<mx::array>& in, mx::array& out) {
    with_type(out.dtype(), [&](auto type) { run_modulate(in, eps, out.data<decltype(type)>()); });
  };
  const auto twin = [eps](const std::vector<mx::array>& in) {
    return portable::modulated_layer_norm(in[0], in[1], in[2], eps);
  };
  return cpu_kernel("modulated_layer_norm", {x, scale, shift}, x.shape(), x.dtype(), body, twin);
}

}  // namespace klein::ops::native
