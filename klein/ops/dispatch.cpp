#include "klein/ops/dispatch.h"

#include <algorithm>

#include <fmt/format.h>

#include "klein/core/error.h"
#include "klein/ops/backend.h"
#include "klein/ops/cuda/native.h"
#include "klein/tensor/check.h"

namespace klein::ops {

bool use_cpu_kernels(std::initializer_list<mx::Dtype> dtypes) {
  return has_cpu_kernels() && backend() == Backend::native &&
         mx::default_device() == mx::Device::cpu &&
         std::all_of(dtypes.begin(), dtypes.end(), [](const mx::Dtype& dtype) {
           return dtype == mx::float32 || dtype == mx::bfloat16;
         });
}

bool use_cuda_kernels(std::initializer_list<mx::Dtype> dtypes) {
  return backend() == Backend::native && mx::default_device() == mx::Device::gpu &&
         std::ranges::all_of(dtypes, [](const mx::Dtype& d) { return d == mx::bfloat16; }) &&
         cuda::available();
}

void expect_axes(const mx::array& a, int axes, std::string_view what) {
  if (static_cast<int>(a.ndim()) != axes)
    throw Error(ErrorKind::shape,
                fmt::format("{}: expected {} axes, got {}", what, axes, describe(a)));
}

void expect_shape(const mx::array& a, const mx::Shape& shape, std::string_view what) {
  if (a.shape() != shape)
    throw Error(ErrorKind::shape, fmt::format("{}: expected [{}], got {}", what,
                                              fmt::join(shape, ", "), describe(a)));
}

void expect_per_row(const mx::array& a, const mx::array& x, std::string_view what) {
  const int batch = x.shape(0), channels = x.shape(-1);
  if (a.shape() != mx::Shape{batch, channels} && a.shape() != mx::Shape{batch, 1, channels})
    throw Error(ErrorKind::shape, fmt::format("{}: expected [{}, {}] or [{}, 1, {}], got {}", what,
                                              batch, channels, batch, channels, describe(a)));
}

void expect_same_dtype(const mx::array& a, const mx::array& b, std::string_view what) {
  if (a.dtype() != b.dtype())
    throw Error(ErrorKind::shape, fmt::format("{}: expected one dtype, got {} and {}", what,
                                              describe(a), describe(b)));
}

}  // namespace klein::ops
