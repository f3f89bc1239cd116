#pragma once

#include <string>
#include <vector>

#include <doctest/doctest.h>

#include "klein/core/error.h"
#include "klein/ops/backend.h"
#include "klein/tensor/check.h"
#include "klein/tensor/mlx.h"

namespace klein::ops::test {

/// The CPU as device and one backend, until the end of the scope.
class With {
 public:
  explicit With(Backend backend) : device_(mx::default_device()) {
    mx::set_default_device(mx::Device::cpu);
    set_backend(backend);
  }
  ~With() {
    set_backend(Backend::native);
    mx::set_default_device(device_);
  }
  With(const With&) = delete;
  With& operator=(const With&) = delete;

 private:
  mx::Device device_;
};

/// What `make()` returns on a backend, evaluated.
template <typename Make>
mx::array computed(Backend backend, const Make& make) {
  const With with(backend);
  auto result = make();
  mx::eval(result);
  return result;
}

/// Normal noise that is the same in every run.
inline mx::array noise(const mx::Shape& shape, mx::Dtype dtype, int seed, float scale = 1.0f) {
  auto a = mx::random::normal(shape, mx::float32, mx::random::key(static_cast<unsigned>(seed)));
  a = mx::astype(a * mx::array(scale), dtype);
  mx::eval(a);
  return a;
}

inline std::vector<float> values(const mx::array& a) {
  const auto wide = mx::contiguous(mx::astype(a, mx::float32));
  mx::eval(wide);
  return {wide.data<float>(), wide.data<float>() + wide.size()};
}

/// Checks shape, dtype and numbers. Float32 may differ by 1e-6 of the largest number; bfloat16 by
/// one unit in the last place, in at most one number of fifty: sums in another order fall on the
/// other side of a rounding now and then.
inline void check_same(const mx::array& got, const mx::array& want, const std::string& what) {
  INFO(what << ", " << describe(want));
  REQUIRE(got.shape() == want.shape());
  REQUIRE(got.dtype() == want.dtype());
  const auto a = values(got), b = values(want);
  float largest = 0.0f;
  for (const float x : b) largest = std::max(largest, std::abs(x));
  const bool rounded = want.dtype() == mx::bfloat16;
  std::size_t wrong = 0, different = 0;
  for (std::size_t i = 0; i < a.size(); ++i) {
    const float slack = rounded ? std::abs(b[i]) / 128 + largest * 1e-6f : largest * 1e-6f;
    if (!(std::abs(a[i] - b[i]) <= slack)) ++wrong;
    if (a[i] != b[i]) ++different;
  }
  CHECK(wrong == 0);
  if (rounded) CHECK(different <= a.size() / 50 + 1);
}

/// Both backends of one operation.
template <typename Make>
void check_backends(const std::string& what, const Make& make) {
  check_same(computed(Backend::native, make), computed(Backend::portable, make), what);
}

/// The text of the Error that `act` throws.
template <typename Act>
std::string complaint(const Act& act) {
  try {
    act();
  } catch (const Error& error) {
    return error.what();
  }
  return "no error";
}

inline const std::vector<mx::Dtype> kDtypes = {mx::float32, mx::bfloat16};

}  // namespace klein::ops::test
