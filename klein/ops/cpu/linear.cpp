#include <algorithm>
#include <cstring>

#include "klein/ops/cpu/convert.h"
#include "klein/ops/cpu/dot.h"
#include "klein/ops/cpu/kernel.h"
#include "klein/ops/cpu/native.h"
#include "klein/ops/cpu/onednn.h"
#include "klein/ops/portable.h"

namespace klein::ops::native {
namespace {

/// Up to so many rows of x, weights are read once in their own dtype instead of being unpacked.
constexpr std::int64_t kFewRows = 4;

/// Floats of unpacked weights that are held at a time.
constexpr std::int64_t kPanelFloats = 1 << 21;

/// Floats of results that wait for their rounding: few columns of weights make a panel wide.
constexpr std::int64_t kWaitingFloats = 1 << 23;

std::int64_t panel_rows(std::int64_t m, std::int64_t n, std::int64_t k) {
  const auto rows = std::min(kPanelFloats / k, kWaitingFloats / m) / 64 * 64;
  return std::min(std::max<std::int64_t>(rows, 64), n);
}

struct Operands {
  std::int64_t m, n, k;
  const Dense &x, &w;
  const float* bias;  // null when there is none
};

/// Rounds m rows of n floats into columns of a matrix with rows of `stride` numbers.
void narrow_rows(const float* in, Bf16* out, std::int64_t m, std::int64_t n, std::int64_t stride) {
  parallel_ranges(m, n * 6, [&](std::int64_t begin, std::int64_t end) {
    for (auto i = begin; i < end; ++i) narrow(in + i * n, out + i * stride, n);
  });
}

/// Few rows: one dot product for each output, the weights streaming through once.
template <typename X, typename W>
void multiply_few(const Operands& o, X* y) {
  const auto wide = Scratch<float>(static_cast<std::size_t>(o.m * o.k));
  for (std::int64_t i = 0; i < o.m * o.k; ++i) wide.data()[i] = to_float(o.x.data<X>()[i]);
  const W* weights = o.w.data<W>();
  parallel_ranges(o.n, o.k * std::int64_t{sizeof(W)}, [&](std::int64_t begin, std::int64_t end) {
    for (auto j = begin; j < end; ++j)
      for (std::int64_t i = 0; i < o.m; ++i) {
        const float sum = dot(wide.data() + i * o.k, weights + j * o.k, o.k);
        y[i * o.n + j] = round_to<X>(o.bias ? sum + o.bias[j] : sum);
      }
  });
}

/// Many rows in float32: what is bfloat16 is unpacked, weights a panel at a time.
template <typename X, typename W>
void multiply_panels(const Operands& o, X* y) {
  constexpr bool kWideX = std::is_same_v<X, float>, kWideW = std::is_same_v<W, float>;
  const auto rows = kWideX && kWideW ? o.n : panel_rows(o.m, o.n, o.k);
  Scratch<float> x, w, sums;
  if constexpr (!kWideX) {
    x = Scratch<float>(static_cast<std::size_t>(o.m * o.k));
    widen_all(o.x.data<X>(), x.data(), o.m * o.k);
    sums = Scratch<float>(static_cast<std::size_t>(o.m * rows));
  }
  if constexpr (!kWideW) w = Scratch<float>(static_cast<std::size_t>(rows * o.k));

  for (std::int64_t from = 0; from < o.n; from += rows) {
    const auto n = std::min(rows, o.n - from);
    const void* right = o.w.data<W>() + from * o.k;
    if constexpr (!kWideW) {
      widen_all(o.w.data<W>() + from * o.k, w.data(), n * o.k);
      right = w.data();
    }
    const void* left = kWideX ? static_cast<const void*>(o.x.data<X>()) : x.data();
    void* out = kWideX ? static_cast<void*>(y + from) : sums.data();
    const MatmulSizes sizes = {o.m, n, o.k, kWideX ? o.n : n, NumberKind::f32, o.bias != nullptr};
    matmul(sizes, left, right, o.bias ? o.bias + from : nullptr, out);
    if constexpr (!kWideX) narrow_rows(sums.data(), y + from, o.m, n, o.n);
  }
}

template <typename X, typename W>
void multiply(const Operands& o, X* y) {
  if (o.m <= kFewRows) return multiply_few<X, W>(o, y);
  if (std::is_same_v<X, Bf16> && std::is_same_v<W, Bf16> && has_fast_bf16())
    return matmul({o.m, o.n, o.k, o.n, NumberKind::bf16, o.bias != nullptr}, o.x.data<X>(),
                  o.w.data<W>(), o.bias, y);
  multiply_panels<X, W>(o, y);
}

void run_linear(const std::vector<mx::array>& in, mx::array& out) {
  const Dense x(in[0]), w(in[1]);
  const auto bias = in.size() > 2 ? floats_of(in[2]) : std::vector<float>();
  const std::int64_t n = in[1].shape(0), k = in[1].shape(1);
  const Operands operands = {static_cast<std::int64_t>(out.size()) / n, n, k, x, w,
                             bias.empty() ? nullptr : bias.data()};
  with_type(out.dtype(), [&](auto x_type) {
    with_type(in[1].dtype(), [&](auto w_type) {
      using X = decltype(x_type);
      multiply<X, decltype(w_type)>(operands, out.data<X>());
    });
  });
}

}  // namespace

mx::array linear(const mx::array& x, const mx::array& weight,
                 const std::optional<mx::array>& bias) {
  auto shape = x.shape();
  shape.back() = weight.shape(0);
  std::vector<mx::array> inputs = {x, weight};
  if (bias) inputs.push_back(*bias);
  const auto twin = [](const std::vector<mx::array>& in) {
    return portable::linear(in[0], in[1], in.size() > 2 ? std::optional(in[2]) : std::nullopt);
  };
  return cpu_kernel("linear", std::move(inputs), std::move(shape), x.dtype(), run_linear, twin);
}

}  // namespace klein::ops::native
