#include "klein/ops/cpu/kernel.h"
#include "klein/ops/cpu/native.h"
#include "klein/ops/cpu/row_norm.h"
#include "klein/ops/cpu/scalar.h"
#include "klein/ops/portable.h"

namespace klein::ops::native {
namespace {

/// Heads wider than this take no fused kernel; real ones have 64 to 256.
constexpr int kWidestHead = 1024;

template <typename T>
KLEIN_INLINE void interleaved_loop(const T* x, const float* cosines, const float* sines, T* out,
                                   std::int64_t pairs) {
#pragma omp simd
  for (std::int64_t j = 0; j < pairs; ++j) {
    const float even = to_float(x[2 * j]), odd = to_float(x[2 * j + 1]);
    out[2 * j] = round_to<T>(even * cosines[j] - odd * sines[j]);
    out[2 * j + 1] = round_to<T>(odd * cosines[j] + even * sines[j]);
  }
}

KLEIN_CLONES void interleaved_row(const float* x, const float* cosines, const float* sines,
                                  float* out, std::int64_t pairs) {
  interleaved_loop(x, cosines, sines, out, pairs);
}
KLEIN_CLONES void interleaved_row(const Bf16* x, const float* cosines, const float* sines,
                                  Bf16* out, std::int64_t pairs) {
  interleaved_loop(x, cosines, sines, out, pairs);
}

template <typename T>
KLEIN_INLINE void half_loop(const T* x, const T* cosines, const T* sines, T* out,
                            std::int64_t pairs) {
#pragma omp simd
  for (std::int64_t j = 0; j < pairs; ++j) {
    const float first = to_float(x[j]), second = to_float(x[j + pairs]);
    const float c = to_float(cosines[j]), s = to_float(sines[j]);
    out[j] = round_to<T>(through<T>(first * c) - through<T>(second * s));
    out[j + pairs] = round_to<T>(through<T>(second * c) + through<T>(first * s));
  }
}

KLEIN_CLONES void half_row(const float* x, const float* cosines, const float* sines, float* out,
                           std::int64_t pairs) {
  half_loop(x, cosines, sines, out, pairs);
}
KLEIN_CLONES void half_row(const Bf16* x, const Bf16* cosines, const Bf16* sines, Bf16* out,
                           std::int64_t pairs) {
  half_loop(x, cosines, sines, out, pairs);
}

template <typename T>
KLEIN_INLINE void normed_loop(const T* x, const float* weight, float eps, const float* cosines,
                              const float* sines, T* out, std::int64_t pairs) {
  const float inverse = inverse_rms(x, eps, 2 * pairs);
  float normed[kWidestHead];
#pragma omp simd
  for (std::int64_t i = 0; i < 2 * pairs; ++i)
    normed[i] = through<T>(to_float(x[i]) * inverse * weight[i]);
#pragma omp simd
  for (std::int64_t j = 0; j < pairs; ++j) {
    const float even = normed[2 * j], odd = normed[2 * j + 1];
    out[2 * j] = round_to<T>(even * cosines[j] - odd * sines[j]);
    out[2 * j + 1] = round_to<T>(odd * cosines[j] + even * sines[j]);
  }
}

KLEIN_CLONES void normed_row(const float* x, const float* weight, float eps, const float* cosines,
                             const float* sines, float* out, std::int64_t pairs) {
  normed_loop(x, weight, eps, cosines, sines, out, pairs);
}
KLEIN_CLONES void normed_row(const Bf16* x, const float* weight, float eps, const float* cosines,
                             const float* sines, Bf16* out, std::int64_t pairs) {
  normed_loop(x, weight, eps, cosines, sines, out, pairs);
}

/// Calls turn(x row, cosines row, sines row, out row) for every head of every token.
template <typename T, typename Table, typename Turn>
void for_each_head(const std::vector<mx::array>& in, mx::array& out, const Turn& turn) {
  const Rows rows(in[0]), cosines(in[1]), sines(in[2]);
  const std::int64_t tokens = in[0].shape(1), heads = in[0].shape(2), width = rows.length();
  T* to = out.data<T>();
  parallel_ranges(rows.count(), width * 2 * std::int64_t{sizeof(T)}, [&](auto begin, auto end) {
    for (auto i = begin; i < end; ++i) {
      const auto token = i / heads % tokens;
      turn(rows.row<T>(i), cosines.row<Table>(token), sines.row<Table>(token), to + i * width);
    }
  });
}

}  // namespace

mx::array rope_interleaved(const mx::array& x, const mx::array& cosines, const mx::array& sines) {
  const auto body = [](const std::vector<mx::array>& in, mx::array& out) {
    const auto pairs = in[0].shape(3) / 2;
    with_type(out.dtype(), [&](auto type) {
      for_each_head<decltype(type), float>(in, out, [&](auto row, auto c, auto s, auto to) {
        interleaved_row(row, c, s, to, pairs);
      });
    });
  };
  const auto twin = [](const std::vector<mx::array>& in) {
    return portable::rope_interleaved(in[0], in[1], in[2]);
  };
  return cpu_kernel("rope_interleaved", {x, cosines, sines}, x.shape(), x.dtype(), body, twin);
}

mx::array rope_half(const mx::array& x, const mx::array& cosines, const mx::array& sines) {
  const auto body = [](const std::vector<mx::array>& in, mx::array& out) {
    const auto pairs = in[0].shape(3) / 2;
    with_type(out.dtype(), [&](auto type) {
      using T = decltype(type);
      for_each_head<T, T>(
          in, out, [&](auto row, auto c, auto s, auto to) { half_row(row, c, s, to, pairs); });
    });
  };
  const auto twin = [](const std::vector<mx::array>& in) {
    return portable::rope_half(in[0], in[1], in[2]);
  };
  return cpu_kernel("rope_half", {x, cosines, sines}, x.shape(), x.dtype(), body, twin);
}

mx::array rms_norm_rope_interleaved(const mx::array& x, const mx::array& weight, float eps,
                                    const mx::array& cosines, const mx::array& sines) {
  if (x.shape(3) > kWidestHead)
    return native::rope_interleaved(native::rms_norm(x, weight, eps), cosines, sines);
  const auto body = [eps](const std::vector<mx::array>& in, mx::array& out) {
    const auto pairs = in[0].shape(3) / 2;
    const auto factors = floats_of(in[3]);
    with_type(out.dtype(), [&](auto type) {
      for_each_head<decltype(type), float>(in, out, [&](auto row, auto c, auto s, auto to) {
        normed_row(row, factors.data(), eps, c, s, to, pairs);
      });
    });
  };
  const auto twin = [eps](const std::vector<mx::array>& in) {
    return portable::rms_norm_rope_interleaved(in[0], in[3], eps, in[1], in[2]);
  };
  return cpu_kernel("rms_norm_rope_interleaved", {x, cosines, sines, weight}, x.shape(), x.dtype(),
                    body, twin);
}

}  // namespace klein::ops::native
