#include "klein/ops/layout.h"

#include <algorithm>

#include <fmt/format.h>

#include "klein/core/error.h"
#include "klein/ops/cuda/native.h"
#include "klein/ops/dispatch.h"
#include "klein/ops/portable.h"
#include "klein/tensor/check.h"

namespace klein::ops {

mx::array columns(const mx::array& x, int begin, int end) {
  expect_axes(x, 3, "columns");
  if (begin < 0 || begin > end || end > x.shape(2))
    throw Error(ErrorKind::shape,
                fmt::format("expected columns {} to {} of {}", begin, end, describe(x)));

  if (use_cuda_kernels({x.dtype()})) return cuda::columns(x, begin, end);
  return portable::columns(x, begin, end);
}

mx::array concatenate(const std::vector<mx::array>& parts, int axis) {
  if (use_cuda_kernels({parts.at(0).dtype()})) return cuda::concatenate(parts, axis);
  return mx::concatenate(parts, axis);
}

}  // namespace klein::ops
