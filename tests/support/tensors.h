#pragma once

#include <string>
#include <utility>
#include <vector>

#include <doctest/doctest.h>

#include "klein/nn/rope.h"
#include "klein/tensor/mlx.h"
#include "klein/weights/fill.h"

namespace klein::test {

/// What reference/ wrote: named tensors, and the weights of the module under test.
struct Fixture {
  weights::TensorMap tensors;
  weights::TensorMap weights;
  std::string name;

  const mx::array& operator[](const std::string& tensor) const { return tensors.at(tensor); }
  bool has(const std::string& tensor) const { return tensors.contains(tensor); }
};

inline Fixture fixture(const std::string& name) {
  Fixture f;
  f.name = name;
  const auto path = std::string(KLEIN_TEST_FIXTURES) + "/" + name + ".safetensors";
  for (const auto& [key, value] : mx::load_safetensors(path).first) {
    const bool is_weight = key.starts_with("weights.");
    (is_weight ? f.weights : f.tensors).insert_or_assign(is_weight ? key.substr(8) : key, value);
  }
  return f;
}

/// Channels last, as klein computes; the reference has them second.
inline mx::array nhwc(const mx::array& a) {
  return mx::transpose(a, {0, 2, 3, 1});
}

inline std::vector<int> integers(const mx::array& a) {
  auto plain = mx::contiguous(mx::astype(a, mx::int32));
  mx::eval(plain);
  return {plain.data<int>(), plain.data<int>() + plain.size()};
}

/// Rows of t, h, w, l.
inline std::vector<nn::PositionId> position_ids(const mx::array& ids) {
  const auto values = integers(ids);
  std::vector<nn::PositionId> result;
  for (std::size_t i = 0; i + 3 < values.size(); i += 4)
    result.push_back({values[i], values[i + 1], values[i + 2], values[i + 3]});
  return result;
}

/// Fills `module` with the weights of `f`, in the dtype of the fixture.
template <typename Module>
void fill(Module& module, const Fixture& f, mx::Dtype dtype) {
  weights::WeightMap weights(f.weights.begin(), f.weights.end());
  weights::fill(module, std::move(weights), dtype, f.name);
}

/// How far apart two results are: the largest difference relative to the largest wanted value.
///
/// Parts of a network mix large and small values in one tensor; a difference is only as bad as it
/// is against the scale of the whole.
inline float relative_error(const mx::array& got, const mx::array& want) {
  const auto a = mx::astype(got, mx::float32), b = mx::astype(want, mx::float32);
  const float scale = mx::max(mx::abs(b)).item<float>();
  return mx::max(mx::abs(a - b)).item<float>() / (scale > 0 ? scale : 1.0f);
}

constexpr float kFloat32 = 1e-5f;

/// For bfloat16 stages whose roundings are fixed by the specification: all but 2 % of the values
/// equal, the rest (where float32 sums of another order fall on the other side of a tie) a unit
/// off. A wrong rounding point changes 4 % and more, each by no more than a unit.
constexpr float kEqual = -1.0f;

inline float share_unequal(const mx::array& got, const mx::array& want) {
  const auto unequal = mx::astype(mx::not_equal(got, want), mx::float32);
  return mx::mean(unequal).item<float>();
}

/// Checks shape and relative_error; prints the error, so that a run shows how close it came.
inline void check_close(const mx::array& got, const mx::array& want, float tolerance,
                        const std::string& what) {
  REQUIRE(got.shape() == want.shape());
  const float error = relative_error(got, want);
  if (tolerance == kEqual) {
    const float share = share_unequal(got, want);
    MESSAGE(what << ": share of unequal values " << share << " of at most 0.02, relative error "
                 << error);
    CHECK(share <= 0.02f);
    CHECK(error <= 0x1p-7f);
  } else {
    MESSAGE(what << ": relative error " << error << " of at most " << tolerance);
    CHECK(error <= tolerance);
  }
}

}  // namespace klein::test
