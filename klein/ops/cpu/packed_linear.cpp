#include <algorithm>
#include <cstring>

#include "klein/ops/cpu/convert.h"
#include "klein/ops/cpu/kernel.h"
#include "klein/ops/cpu/native.h"
#include "klein/ops/cpu/onednn.h"
#include "klein/ops/portable.h"

namespace klein::ops::native {
namespace {

/// Numbers of decoded weights that are held at a time.
constexpr std::int64_t kPanelNumbers = 1 << 21;

/// A packed matrix as inputs of a kernel: its arrays in a row, and what they were.
struct Inputs {
  explicit Inputs(const PackedMatrix& matrix) : matrix_(matrix) {
    arrays_.push_back(matrix.codes);
    for (const auto* part : {&matrix.scales, &matrix.biases, &matrix.column_scales})
      if (*part) arrays_.push_back(**part);
    for (auto& a : arrays_) a = mx::contiguous(a);
    // The graph holds the arrays; what is kept here is sizes and layout.
    matrix_.codes = mx::array(0);
    for (auto* part : {&matrix_.scales, &matrix_.biases, &matrix_.column_scales})
      if (*part) *part = mx::array(0);
  }

  const std::vector<mx::array>& arrays() const { return arrays_; }

  /// The matrix again, from the evaluated arrays that begin at `first`.
  PackedMatrix matrix(const std::vector<mx::array>& in, std::size_t first) const {
    PackedMatrix m = matrix_;
    m.codes = in[first++];
    for (auto* part : {&m.scales, &m.biases, &m.column_scales})
      if (*part) *part = in[first++];
    return m;
  }

  void forget_arrays() { arrays_.clear(); }

 private:
  PackedMatrix matrix_;
  std::vector<mx::array> arrays_;
};

void decode_panel(const quant::PackedView& view, std::int64_t begin, std::int64_t end, float* out) {
  parallel_ranges(end - begin, view.columns * 4, [&](std::int64_t from, std::int64_t to) {
    quant::decode_rows(view, begin + from, begin + to, out + from * view.columns);
  });
}

/// y = x w^T + bias, a panel of rows of w at a time.
template <typename X>
void multiply(const X* x, const quant::PackedView& view, const float* bias, std::int64_t m, X* y) {
  const auto k = view.columns, n = view.rows;
  const auto rows = std::clamp<std::int64_t>(kPanelNumbers / k / 64 * 64, 64, n);
  constexpr bool kNarrow = std::is_same_v<X, Bf16>;
  const bool bf16_product = kNarrow && has_fast_bf16();
  const auto panel = Scratch<float>(static_cast<std::size_t>(rows * k));
  Scratch<float> wide_x, sums;
  Scratch<Bf16> narrow_panel;
  if (bf16_product || kNarrow) narrow_panel = Scratch<Bf16>(static_cast<std::size_t>(rows * k));
  if constexpr (kNarrow) {
    if (!bf16_product) {
      wide_x = Scratch<float>(static_cast<std::size_t>(m * k));
      widen_all(x, wide_x.data(), m * k);
      sums = Scratch<float>(static_cast<std::size_t>(m * rows));
    }
  }
  for (std::int64_t from = 0; from < n; from += rows) {
    const auto count = std::min(rows, n - from);
    decode_panel(view, from, from + count, panel.data());
    const float* b = bias ? bias + from : nullptr;
    if constexpr (kNarrow) {
      // The weights that a dense bfloat16 layer would have.
      parallel_ranges(count, k * 6, [&](std::int64_t begin, std::int64_t end) {
        narrow(panel.data() + begin * k, narrow_panel.data() + begin * k, (end - begin) * k);
      });
      if (bf16_product) {
        matmul({m, count, k, n, NumberKind::bf16, b != nullptr}, x, narrow_panel.data(), b,
               y + from);
        continue;
      }
      widen_all(narrow_panel.data(), panel.data(), count * k);
      matmul({m, count, k, count, NumberKind::f32, b != nullptr}, wide_x.data(), panel.data(), b,
             sums.data());
      parallel_ranges(m, count * 6, [&](std::int64_t begin, std::int64_t end) {
        for (auto i = begin; i < end; ++i) narrow(sums.data() + i * count, y + i * n + from, count);
      });
    } else {
      matmul({m, count, k, n, NumberKind::f32, b != nullptr}, x, panel.data(), b, y + from);
    }
  }
}

}  // namespace

mx::array linear(const mx::array& x, const PackedMatrix& weight,
                 const std::optional<mx::array>& bias) {
  auto shape = x.shape();
  shape.back() = weight.rows;
  Inputs packed(weight);
  std::vector<mx::array> inputs = {x};
  inputs.insert(inputs.end(), packed.arrays().begin(), packed.arrays().end());
  if (bias) inputs.push_back(*bias);
  packed.forget_arrays();
  const bool biased = bias.has_value();
  const auto body = [packed, biased](const std::vector<mx::array>& in, mx::array& out) {
    const Dense rows(in[0]);
    const auto b = biased ? floats_of(in.back()) : std::vector<float>();
    const auto matrix = packed.matrix(in, 1);
    with_type(out.dtype(), [&](auto type) {
      using X = decltype(type);
      multiply<X>(rows.data<X>(), matrix.view(), biased ? b.data() : nullptr,
                  static_cast<std::int64_t>(out.size()) / matrix.rows, out.data<X>());
    });
  };
  const auto twin = [packed, biased](const std::vector<mx::array>& in) {
    return portable::linear(in[0], packed.matrix(in, 1),
                            biased ? std::optional(in.back()) : std::nullopt);
  };
  return cpu_kernel("packed_linear", std::move(inputs), std::move(shape), x.dtype(), body, twin);
}

mx::array unpack(const PackedMatrix& matrix, mx::Dtype dtype) {
  Inputs packed(matrix);
  auto inputs = packed.arrays();
  packed.forget_arrays();
  const auto body = [packed](const std::vector<mx::array>& in, mx::array& out) {
    const auto m = packed.matrix(in, 0);
    const auto view = m.view();
    parallel_ranges(m.rows, std::int64_t{m.columns} * 4, [&](std::int64_t begin, std::int64_t end) {
      if (out.dtype() == mx::float32) {
        quant::decode_rows(view, begin, end, out.data<float>() + begin * m.columns);
        return;
      }
      const auto row = Scratch<float>(static_cast<std::size_t>(m.columns));
      for (auto i = begin; i < end; ++i) {
        quant::decode_rows(view, i, i + 1, row.data());
        narrow(row.data(), out.data<Bf16>() + i * m.columns, m.columns);
      }
    });
  };
  const auto twin = [packed, dtype](const std::vector<mx::array>& in) {
    return portable::unpack(packed.matrix(in, 0), dtype);
  };
  return cpu_kernel("unpack", std::move(inputs), {matrix.rows, matrix.columns}, dtype, body, twin);
}

}  // namespace klein::ops::native
