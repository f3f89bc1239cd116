#include "klein/nn/norm.h"

#include "klein/nn/module.h"
#include "klein/ops/norm.h"

namespace klein::nn {

RMSNorm::RMSNorm(int size, float epsilon) : weight(mx::ones({size})), eps(epsilon) {}

mx::array RMSNorm::operator()(const mx::array& x) const {
  return ops::rms_norm(x, weight, eps);
}

void RMSNorm::visit(Visitor& visitor) {
  visitor.array("weight", weight);
}

GroupNorm::GroupNorm(int group_count, int channels, float epsilon)
    : weight(mx::ones({channels})),
      bias(mx::zeros({channels})),
      groups(group_count),
      eps(epsilon) {}

mx::array GroupNorm::operator()(const mx::array& x, bool silu) const {
  return ops::group_norm(x, weight, bias, groups, eps, silu);
}

mx::array GroupNorm::with_moments(const mx::array& x, const mx::array& moments, bool silu) const {
  return ops::group_norm_with(x, moments, weight, bias, eps, silu);
}

void GroupNorm::visit(Visitor& visitor) {
  visitor.array("weight", weight);
  visitor.array("bias", bias);
}

}  // namespace klein::nn
