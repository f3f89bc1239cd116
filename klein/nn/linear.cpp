#include "klein/nn/linear.h"

#include "klein/ops/elementwise.h"
#include "klein/ops/linear.h"

namespace klein::nn {

Linear::Linear(int in, int out, bool with_bias) : weight(mx::zeros({out, in})) {
  if (with_bias) bias = mx::zeros({out});
}

mx::array Linear::operator()(const mx::array& x) const {
  auto y = ops::linear(x, weight, bias);
  for (const auto& adapter : adapters)
    y = ops::add_scaled(y, adapter.scale, apply(adapter.matrix, x));
  return y;
}

Embedding::Embedding(int count, int width) : weight(mx::zeros({count, width})) {}

mx::array Embedding::operator()(const mx::array& ids) const {
  return ops::take_rows(weight, ids, dtype);
}

}  // namespace klein::nn
