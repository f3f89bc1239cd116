#include "klein/nn/swiglu.h"

#include "klein/ops/elementwise.h"

namespace klein::nn {

SwiGLU::SwiGLU(int dim, int hidden) : linear_in(dim, 2 * hidden), linear_out(hidden, dim) {}

mx::array SwiGLU::operator()(const mx::array& x) const {
  return linear_out(ops::swiglu(linear_in(x)));
}

void SwiGLU::visit(Visitor& visitor) {
  visitor.linear("linear_in", linear_in);
  visitor.linear("linear_out", linear_out);
}

}  // namespace klein::nn
