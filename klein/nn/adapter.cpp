#include "klein/nn/adapter.h"

#include "klein/ops/linear.h"

namespace klein::nn {
namespace {

mx::array applied(const LowRank& m, const mx::array& x) {
  return ops::linear(ops::linear(x, m.a), m.b);
}

mx::array applied(const HadamardProduct& m, const mx::array& x) {
  const auto wide = [](const LowRank& factors) {
    return ops::linear(mx::astype(factors.b, mx::float32),
                       mx::transpose(mx::astype(factors.a, mx::float32)));
  };
  return ops::linear(x, mx::astype(wide(m.first) * wide(m.second), x.dtype()));
}

/// With x as a table X of as many rows as w1 has columns: w1 X w2^T.
mx::array applied(const KroneckerProduct& m, const mx::array& x) {
  auto shape = x.shape();
  shape.back() = m.w1.shape(1);
  shape.push_back(m.w2.shape(1));
  const auto inner = ops::linear(mx::reshape(x, shape), m.w2);
  const auto outer = mx::swapaxes(ops::linear(mx::swapaxes(inner, -1, -2), m.w1), -1, -2);
  shape.pop_back();
  shape.back() = m.w1.shape(0) * m.w2.shape(0);
  auto rows = mx::reshape(outer, shape);
  if (m.skipped == 0 && m.cut == 0) return rows;
  mx::Shape begin(shape.size(), 0), end = shape;
  begin.back() = m.skipped;
  end.back() -= m.cut;
  return mx::slice(rows, begin, end);
}

mx::array applied(const mx::array& m, const mx::array& x) {
  return ops::linear(x, m);
}

}  // namespace

mx::array apply(const AdapterMatrix& matrix, const mx::array& x) {
  return std::visit([&](const auto& m) { return applied(m, x); }, matrix);
}

}  // namespace klein::nn
