#pragma once

#include <vector>

#include "klein/tensor/mlx.h"

namespace klein::ops {

/// Which keys a query sees.
struct AttentionMask {
  /// Query i sees keys 0..i; needs as many keys as queries.
  bool causal = false;

  /// Number of real keys of each batch row, the rest being padding on the right; empty means all.
  std::vector<int> key_lengths = {};
};

/// softmax(scale * q k^T + mask) v, without ever holding the whole score matrix on the CPU.
///
/// A query that sees no key at all gives zeros. Columns of one wide projection can be passed as
/// they are: the CPU version reads any strides as long as the last axis is contiguous.
///
/// Shapes   q [B, L, H, D], k and v [B, S, Hkv, D] with H a multiple of Hkv -> [B, L, H, D]
/// Dtype    that of q, k and v; float32 inside, one rounding
/// Errors   Error(shape) when the shapes or the mask do not fit together
/// Source   torch scaled_dot_product_attention
mx::array attention(const mx::array& q, const mx::array& k, const mx::array& v, float scale,
                    const AttentionMask& mask = {});

}  // namespace klein::ops
