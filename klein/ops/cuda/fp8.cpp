#include "klein/ops/cuda/fp8.h"

#include <algorithm>
#include <any>
#include <utility>

#include "klein/ops/backend.h"
#include "klein/ops/cuda/cublas.h"
#include "klein/ops/cuda/kernel.h"
#include "klein/ops/cuda/native.h"
#include "klein/ops/cuda/recipes.h"
#include "klein/ops/portable.h"

namespace klein::ops::cuda {
namespace {

constexpr int kMostInRegisters = 3;  // times kLanes: what a thread of join_swiglu_fp8 keeps
constexpr int kLeastRows = 64;       // fewer rows read the weight once, whatever its numbers are

/// Enough threads for a row of `width` numbers.
unsigned join_threads(int width) {
  return blocks_for(width, kLanes * kMostInRegisters * 32) * 32;
}

/// Rows of `left` (may be null), then silu(gate) * up (which may be null).
Fp8Rows join(const mx::array* left, const mx::array* gate, const mx::array* up) {
  std::vector<mx::array> inputs;
  if (left) inputs.push_back(*left);
  if (gate) inputs.insert(inputs.end(), {*gate, *up});
  auto shape = inputs[0].shape();
  const int left_width = left ? left->shape(-1) : 0, width = gate ? gate->shape(-1) : 0;
  const int count = row_count(inputs[0]);
  shape.back() = left_width + width;
  const auto made = gpu_kernel(
      "join_swiglu_fp8", std::move(inputs), {shape, {count}}, {mx::uint8, mx::float32},
      [left_width, width, count](Launcher& launcher, const auto& in, auto& out) {
        Rows parts[3] = {};
        std::vector<mx::array> alive;
        std::size_t part = left_width > 0 ? 0 : 1;
        for (const auto& a : in) {
          alive.push_back(launcher.with_rows(a));
          parts[part++] = rows(alive.back());
        }
        launcher.run(function("common", "join_swiglu_fp8"), {static_cast<unsigned>(count)},
                     {join_threads(left_width + width)}, 0, parts[0], left_width, parts[1],
                     parts[2], width, address(out[0]), address(out[1]));
      });
  return {made[0], made[1]};
}

Fp8Rows make_fp8_rows(const mx::array& x) {
  if (auto normed = fp8_of_modulated_norm(x)) return *std::move(normed);
  const auto& in = x.inputs();
  if (recipe_of<SwigluRecipe>(x)) return join(nullptr, &in[0], &in[1]);
  if (recipe_of<JoinedSwigluRecipe>(x)) return join(&in[0], &in[1], &in[2]);
  return join(&x, nullptr, nullptr);
}

/// One for all products that read the same array; arrays belong to their thread.
const Fp8Rows& fp8_rows(const mx::array& x) {
  thread_local std::optional<std::pair<mx::array, Fp8Rows>> last;
  if (!last || last->first.id() != x.id()) last.emplace(x, make_fp8_rows(x));
  return last->second;
}

mx::array product(const Fp8Rows& x, const mx::array& codes, const mx::array& scales,
                  const ProductShape& shape, std::any recipe) {
  prepare_product(shape);
  auto out = x.codes.shape();
  out.back() = shape.n;
  const auto run = [shape](Launcher& launcher, const std::vector<mx::array>& in,
                           std::vector<mx::array>& result) {
    launch_product(launcher, shape,
                   {.x = address(in[0]),
                    .weight = address(in[2]),
                    .y = address(result[0]),
                    .x_scales = address(in[1]),
                    .weight_scales = address(in[3])});
  };
  return gpu_kernel("fp8_linear", {x.codes, x.scales, codes, scales}, std::move(out), mx::bfloat16,
                    run, nullptr, std::move(recipe));
}

mx::array unpacked(const mx::array& codes, const mx::array& scales) {
  return gpu_kernel(
      "unpack_fp8", {codes, scales}, codes.shape(), mx::bfloat16,
      [](Launcher& launcher, const auto& in, auto& out) {
        const auto count = static_cast<std::int64_t>(out[0].size());
        launcher.run(function("common", "unpack_fp8"), {blocks_for(count, 256 * kLanes)}, {256}, 0,
                     address(in[0]), address(in[1]), in[0].shape(1), count, address(out[0]));
      },
      nullptr);
}

}  // namespace

mx::array fp8_linear(const mx::array& x, const mx::array& codes, const mx::array& scales) {
  const ProductShape shape{
      .m = row_count(x), .n = codes.shape(0), .k = codes.shape(1), .fp8 = true};
  const bool fits = has_fp8() && fp8_products() && shape.m >= kLeastRows && fits_product(shape) &&
                    shape.k <= 1024 * kLanes * kMostInRegisters;
  if (!fits) return cuda::linear(x, unpacked(codes, scales), std::nullopt);
  return product(fp8_rows(x), codes, scales, shape, Fp8LinearRecipe{x, codes, scales});
}

mx::array fp8_product(const PackedMatrix& x, const PackedMatrix& weight) {
  const ProductShape shape{.m = x.rows, .n = weight.rows, .k = x.columns, .fp8 = true};
  return product({x.codes, *x.scales}, weight.codes, *weight.scales, shape, {});
}

mx::array unpack(const PackedMatrix& matrix, mx::Dtype dtype) {
  return is_gpu_format(matrix) ? unpacked(matrix.codes, *matrix.scales)
                               : portable::unpack(matrix, dtype);
}

mx::array linear(const mx::array& x, const PackedMatrix& weight,
                 const std::optional<mx::array>& bias) {
  if (!is_gpu_format(weight)) return portable::linear(x, weight, bias);
  const auto y = fp8_linear(x, weight.codes, *weight.scales);
  return bias ? y + *bias : y;
}

}  // namespace klein::ops::cuda
