#include "klein/ops/attention.h"

#include <algorithm>

#include <fmt/format.h>

#include "klein/core/error.h"
#include "klein/ops/cpu/native.h"
#include "klein/ops/cuda/native.h"
#include "klein/ops/dispatch.h"
#include "klein/ops/portable.h"
#include "klein/tensor/check.h"

namespace klein::ops {
namespace {

void expect_mask(const AttentionMask& mask, int batch, int queries, int keys) {
  if (mask.causal && queries != keys)
    throw Error(ErrorKind::shape,
                fmt::format("causal attention: expected as many keys as queries, got {} and {}",
                            keys, queries));
  const auto& lengths = mask.key_lengths;
  if (lengths.empty()) return;
  if (static_cast<int>(lengths.size()) != batch)
    throw Error(ErrorKind::shape,
                fmt::format("attention key lengths: expected one for each of {} batch rows, got {}",
                            batch, lengths.size()));
  const auto [least, most] = std::minmax_element(lengths.begin(), lengths.end());
  if (*least < 0 || *most > keys)
    throw Error(ErrorKind::shape, fmt::format("attention key lengths: expected 0 to {}, got {}",
                                              keys, *least < 0 ? *least : *most));
}

}  // namespace

mx::array attention(const mx::array& q, const mx::array& k, const mx::array& v, float scale,
                    const AttentionMask& mask) {
  expect_axes(q, 4, "attention queries");
  expect_axes(k, 4, "attention keys");
  expect_shape(v, k.shape(), "attention values");
  expect_same_dtype(q, k, "attention queries and keys");
  expect_same_dtype(q, v, "attention queries and values");
  const int kv_heads = k.shape(2);
  if (k.shape(0) != q.shape(0) || k.shape(3) != q.shape(3) || kv_heads == 0 ||
      q.shape(2) % kv_heads != 0)
    throw Error(ErrorKind::shape, fmt::format("attention: queries {} do not go with keys {}",
                                              describe(q), describe(k)));
  expect_mask(mask, q.shape(0), q.shape(1), k.shape(1));

  if (use_cpu_kernels({q.dtype()})) return native::attention(q, k, v, scale, mask);
  if (use_cuda_kernels({q.dtype()})) return cuda::attention(q, k, v, scale, mask);
  return portable::attention(q, k, v, scale, mask);
}

}  // namespace klein::ops
