#include "klein/nn/linear.h"

#include "klein/ops/linear.h"
#include "klein/tensor/check.h"

namespace klein::nn {

Linear::Linear(int in, int out, bool with_bias) : weight(mx::zeros({out, in})) {
  if (with_bias) bias = mx::zeros({out});
}

mx::array Linear::operator()(const mx::array& x) const {
  expect_last_axis(x, weight.shape(1), "linear layer input");
  return ops::linear(x, weight, bias);
}

}  // namespace klein::nn
