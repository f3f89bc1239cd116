#include "klein/ops/cpu/kernel.h"
#include "klein/ops/cpu/native.h"
#include "klein/ops/cpu/scalar.h"
#include "klein/ops/portable.h"

namespace klein::ops::native {
namespace {

template <typename T>
KLEIN_INLINE void silu_loop(const T* x, T* out, std::int64_t count) {
#pragma omp simd
  for (std::int64_t i = 0; i < count; ++i) out[i] = round_to<T>(silu_of(to_float(x[i])));
}

KLEIN_CLONES void silu_row(const float* x, float* out, std::int64_t n) {
  silu_loop(x, out, n);
}
KLEIN_CLONES void silu_row(const Bf16* x, Bf16* out, std::int64_t n) {
  silu_loop(x, out, n);
}

template <typename T>
KLEIN_INLINE void swiglu_loop(const T* gate, const T* up, T* out, std::int64_t count) {
#pragma omp simd
  for (std::int64_t i = 0; i < count; ++i)
    out[i] = round_to<T>(through<T>(silu_of(to_float(gate[i]))) * to_float(up[i]));
}

KLEIN_CLONES void swiglu_row(const float* gate, const float* up, float* out, std::int64_t n) {
  swiglu_loop(gate, up, out, n);
}
KLEIN_CLONES void swiglu_row(const Bf16* gate, const Bf16* up, Bf16* out, std::int64_t n) {
  swiglu_loop(gate, up, out, n);
}

template <typename T>
KLEIN_INLINE void add_gated_loop(const T* x, const T* gate, const T* y, T* out,
                                 std::int64_t count) {
#pragma omp simd
  for (std::int64_t i = 0; i < count; ++i)
    out[i] = round_to<T>(to_float(x[i]) + through<T>(to_float(gate[i]) * to_float(y[i])));
}

KLEIN_CLONES void add_gated_row(const float* x, const float* gate, const float* y, float* out,
                                std::int64_t n) {
  add_gated_loop(x, gate, y, out, n);
}
KLEIN_CLONES void add_gated_row(const Bf16* x, const Bf16* gate, const Bf16* y, Bf16* out,
                                std::int64_t n) {
  add_gated_loop(x, gate, y, out, n);
}

template <typename T>
KLEIN_INLINE void add_scaled_loop(const T* x, float scale, const T* y, T* out, std::int64_t count) {
#pragma omp simd
  for (std::int64_t i = 0; i < count; ++i)
    out[i] = round_to<T>(to_float(x[i]) + through<T>(scale * to_float(y[i])));
}

KLEIN_CLONES void add_scaled_row(const float* x, float scale, const float* y, float* out,
                                 std::int64_t n) {
  add_scaled_loop(x, scale, y, out, n);
}
KLEIN_CLONES void add_scaled_row(const Bf16* x, float scale, const Bf16* y, Bf16* out,
                                 std::int64_t n) {
  add_scaled_loop(x, scale, y, out, n);
}

template <typename T>
void run_swiglu(const Rows& gate, const Rows& up, std::int64_t up_from, std::int64_t length,
                T* to) {
  parallel_ranges(gate.count(), length * 3 * std::int64_t{sizeof(T)}, [&](auto begin, auto end) {
    for (auto i = begin; i < end; ++i)
      swiglu_row(gate.row<T>(i), up.row<T>(i) + up_from, to + i * length, length);
  });
}

template <typename T>
void run_add_gated(const mx::array& x, const mx::array& gate, const mx::array& y, T* to) {
  const Rows xs(x), gates(gate), ys(y);
  const std::int64_t length = xs.length(), tokens = x.shape(1);
  parallel_ranges(xs.count(), length * 4 * std::int64_t{sizeof(T)}, [&](auto begin, auto end) {
    for (auto i = begin; i < end; ++i)
      add_gated_row(xs.row<T>(i), gates.row<T>(i / tokens), ys.row<T>(i), to + i * length, length);
  });
}

}  // namespace

mx::array silu(const mx::array& x) {
  const auto body = [](const std::vector<mx::array>& in, mx::array& out) {
    const Rows rows(in[0]);
    with_type(out.dtype(), [&](auto type) {
      using T = decltype(type);
      T* to = out.data<T>();
      const auto length = rows.length();
      parallel_ranges(rows.count(), length * 2 * std::int64_t{sizeof(T)},
                      [&](auto begin, auto end) {
                        for (auto i = begin; i < end; ++i)
                          silu_row(rows.row<T>(i), to + i * length, length);
                      });
    });
  };
  const auto twin = [](const std::vector<mx::array>& in) { return portable::silu(in[0]); };
  return cpu_kernel("silu", {x}, x.shape(), x.dtype(), body, twin);
}

mx::array swiglu(const mx::array& gate, const mx::array& up) {
  const auto body = [](const std::vector<mx::array>& in, mx::array& out) {
    const Rows gates(in[0]), ups(in[1]);
    with_type(out.dtype(), [&](auto type) {
      run_swiglu(gates, ups, 0, gates.length(), out.data<decltype(type)>());
    });
  };
  const auto twin = [](const std::vector<mx::array>& in) { return portable::swiglu(in[0], in[1]); };
  return cpu_kernel("swiglu", {gate, up}, gate.shape(), gate.dtype(), body, twin);
}

mx::array swiglu(const mx::array& gate_and_up) {
  auto shape = gate_and_up.shape();
  shape.back() /= 2;
  const auto body = [](const std::vector<mx::array>& in, mx::array& out) {
    const Rows both(in[0]);
    const auto half = both.length() / 2;
    with_type(out.dtype(),
              [&](auto type) { run_swiglu(both, both, half, half, out.data<decltype(type)>()); });
  };
  const auto twin = [](const std::vector<mx::array>& in) { return portable::swiglu(in[0]); };
  return cpu_kernel("swiglu", {gate_and_up}, shape, gate_and_up.dtype(), body, twin);
}

mx::array add_gated(const mx::array& x, const mx::array& gate, const mx::array& y) {
  const auto body = [](const std::vector<mx::array>& in, mx::array& out) {
    with_type(out.dtype(),
              [&](auto type) { run_add_gated(in[0], in[1], in[2], out.data<decltype(type)>()); });
  };
  const auto twin = [](const std::vector<mx::array>& in) {
    return portable::add_gated(in[0], in[1], in[2]);
  };
  return cpu_kernel("add_gated", {x, gate, y}, x.shape(), x.dtype(), body, twin);
}

mx::array add_scaled(const mx::array& x, float scale, const mx::array& y) {
  const auto body = [scale](const std::vector<mx::array>& in, mx::array& out) {
    const Rows xs(in[0]), ys(in[1]);
    with_type(out.dtype(), [&](auto type) {
      using T = decltype(type);
      T* to = out.data<T>();
      const auto length = xs.length();
      parallel_ranges(xs.count(), length * 3 * std::int64_t{sizeof(T)}, [&](auto begin, auto end) {
        for (auto i = begin; i < end; ++i)
          add_scaled_row(xs.row<T>(i), scale, ys.row<T>(i), to + i * length, length);
      });
    });
  };
  const auto twin = [scale](const std::vector<mx::array>& in) {
    return portable::add_scaled(in[0], scale, in[1]);
  };
  return cpu_kernel("add_scaled", {x, y}, x.shape(), x.dtype(), body, twin);
}

}  // namespace klein::ops::native
