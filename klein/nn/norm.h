#pragma once

#include "klein/tensor/mlx.h"

namespace klein::nn {

class Visitor;

/// Root-mean-square norm over the last axis with a learned weight, rounded once at the end.
///
/// Source   torch.nn.RMSNorm, as diffusers uses it for queries and keys
struct RMSNorm {
  RMSNorm(int size, float epsilon);

  mx::array operator()(const mx::array& x) const;
  void visit(Visitor& visitor);

  mx::array weight;  ///< [size]
  float eps;
};

/// Group norm over NHWC activations, followed by SiLU where `silu` is set.
///
/// Source   torch.nn.GroupNorm
struct GroupNorm {
  GroupNorm(int group_count, int channels, float epsilon = 1e-6f);

  mx::array operator()(const mx::array& x, bool silu = false) const;

  /// The same with the statistics of the whole picture that x is a part of: see ops::group_moments.
  mx::array with_moments(const mx::array& x, const mx::array& moments, bool silu) const;

  void visit(Visitor& visitor);

  mx::array weight;  ///< [channels]
  mx::array bias;    ///< [channels]
  int groups;
  float eps;
};

}  // namespace klein::nn
