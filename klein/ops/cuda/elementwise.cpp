#include "klein/ops/cuda/hopper.h"
#include "klein/ops/cuda/joined.h"
#include "klein/ops/cuda/kernel.h"
#include "klein/ops/cuda/native.h"
#include "klein/ops/cuda/recipes.h"
#include "klein/ops/portable.h"

namespace klein::ops::cuda {
namespace {

constexpr unsigned kThreads = 256;

mx::array swiglu_product(const mx::array& x, const mx::array& gate, const mx::array& up) {
  auto shape = x.shape();
  shape.back() = gate.shape(0);
  return gpu_kernel(
      "swiglu_product", {x, gate, up}, std::move(shape), mx::bfloat16,
      [](Launcher& launcher, const auto& in, auto& out) {
        const auto a = launcher.in_row_order(in[0]), g = launcher.in_row_order(in[1]),
                   u = launcher.in_row_order(in[2]);
        launch_swiglu_product(launcher, a, g, u, address(out[0]), g.shape(0));
      },
      [](const auto& in) {
        return portable::swiglu(portable::linear(in[0], in[1], std::nullopt),
                                portable::linear(in[0], in[2], std::nullopt));
      },
      SwigluProductRecipe{});
}

}  // namespace

mx::array swiglu(const mx::array& gate, const mx::array& up) {
  if (recipe_of<LinearRecipe>(gate) && recipe_of<LinearRecipe>(up)) {
    const auto& x = gate.inputs()[0];
    if (x.id() == up.inputs()[0].id() &&
        fits_swiglu_product(row_count(x), x.shape(-1), gate.shape(-1)))
      return swiglu_product(x, gate.inputs()[1], up.inputs()[1]);
  }
  if (gate.shape(-1) % kLanes != 0 || gate.ndim() > 3) return portable::swiglu(gate, up);
  return gpu_kernel(
      "swiglu", {gate, up}, gate.shape(), mx::bfloat16,
      [](Launcher& launcher, const auto& in, auto& out) {
        const auto g = launcher.with_rows(in[0]), u = launcher.with_rows(in[1]);
        const auto count = static_cast<std::int64_t>(out[0].size()) / kLanes;
        launcher.run(function("common", "swiglu_bf16"), {blocks_for(count, kThreads)}, {kThreads},
                     0, rows(g), rows(u), row_count(g), g.shape(-1), address(out[0]));
      },
      [](const auto& in) { return portable::swiglu(in[0], in[1]); }, SwigluRecipe{});
}

mx::array joined_swiglu(const mx::array& left, const mx::array& gated) {
  const auto& gate = gated.inputs()[0];
  auto shape = left.shape();
  shape.back() += gate.shape(-1);
  return gpu_kernel(
      "joined_swiglu", {left, gate, gated.inputs()[1]}, std::move(shape), mx::bfloat16,
      [](Launcher& launcher, const auto& in, auto& out) {
        const auto l = launcher.with_rows(in[0]), g = launcher.with_rows(in[1]),
                   u = launcher.with_rows(in[2]);
        const auto count = static_cast<std::int64_t>(out[0].size()) / kLanes;
        launcher.run(function("common", "joined_swiglu_bf16"), {blocks_for(count, kThreads)},
                     {kThreads}, 0, rows(l), l.shape(-1), rows(g), rows(u), row_count(g),
                     g.shape(-1), address(out[0]));
      },
      [](const auto& in) {
        return mx::concatenate({in[0], portable::swiglu(in[1], in[2])}, -1);
      },
      JoinedSwigluRecipe{});
}

mx::array swiglu(const mx::array& gate_and_up) {
  const int features = gate_and_up.shape(-1) / 2;
  if (recipe_of<LinearRecipe>(gate_and_up)) {
    const auto& x = gate_and_up.inputs()[0];
    const auto& weight = gate_and_up.inputs()[1];
    const auto rows_of = [&](int begin, int end) {
      return mx::slice(weight, {begin, 0}, {end, weight.shape(1)});
    };
    if (fits_swiglu_product(row_count(x), x.shape(-1), features))
      return swiglu_product(x, rows_of(0, features), rows_of(features, 2 * features));
  }
  const auto [gate, up] = chunk<2>(gate_and_up);
  return cuda::swiglu(gate, up);
}

mx::array add_gated(const mx::array& x, const mx::array& gate, const mx::array& y) {
  if (x.shape(-1) % kLanes != 0) return portable::add_gated(x, gate, y);
  const auto per_picture = mx::reshape(gate, {gate.shape(0), 1, gate.shape(-1)});
  return gpu_kernel(
      "add_gated", {x, per_picture, y}, x.shape(), mx::bfloat16,
      [](Launcher& launcher, const auto& in, auto& out) {
        const auto a = launcher.with_rows(in[0]), g = launcher.with_rows(in[1]),
                   b = launcher.with_rows(in[2]);
        const auto count = static_cast<std::int64_t>(out[0].size()) / kLanes;
        launcher.run(function("common", "add_gated_bf16"), {blocks_for(count, kThreads)},
                     {kThreads}, 0, rows(a), rows(g), rows(b), row_count(a), a.shape(-1),
                     address(out[0]));
      },
      [](const auto& in) { return portable::add_gated(in[0], in[1], in[2]); });
}

mx::array levels(const mx::array& pixels) {
  if (pixels.size() % kLanes != 0) return portable::levels(pixels);
  return gpu_kernel(
      "levels", {pixels}, pixels.shape(), mx::uint8,
      [](Launcher& launcher, const auto& in, auto& out) {
        const auto x = launcher.in_row_order(in[0]);
        const auto count = static_cast<std::int64_t>(x.size());
        launcher.run(function("picture", "levels_bf16"), {blocks_for(count, kThreads * kLanes)},
                     {kThreads}, 0, address(x), count, address(out[0]));
      },
      nullptr);
}

/// MLX's own would be compiled when it is first used.
mx::array take_rows(const mx::array& table, const mx::array& ids) {
  const int width = table.shape(1);
  if (width % kLanes != 0 || ids.dtype() != mx::int32) return mx::take(table, ids, 0);
  auto shape = ids.shape();
  shape.push_back(width);
  return gpu_kernel(
      "take_rows", {table, mx::contiguous(ids)}, std::move(shape), mx::bfloat16,
      [width](Launcher& launcher, const auto& in, auto& out) {
        const auto rows_of = launcher.in_row_order(in[0]);
        const auto count = static_cast<std::int64_t>(out[0].size()) / kLanes;
        launcher.run(function("common", "take_rows_16"), {blocks_for(count, kThreads)}, {kThreads},
                     0, address(rows_of), address(in[1]), width / kLanes, count, address(out[0]));
      },
      [](const auto& in) { return mx::take(in[0], in[1], 0); });
}

mx::array upsample_nearest_2x(const mx::array& x) {
  if (x.shape(3) % kLanes != 0) return portable::upsample_nearest_2x(x);
  return gpu_kernel(
      "upsample_nearest_2x", {x}, {x.shape(0), 2 * x.shape(1), 2 * x.shape(2), x.shape(3)},
      mx::bfloat16,
      [](Launcher& launcher, const auto& in, auto& out) {
        const auto a = launcher.in_row_order(in[0]);
        const auto count = static_cast<std::int64_t>(a.size()) / kLanes;
        launcher.run(function("picture", "upsample_nearest_2x_16"), {blocks_for(count, kThreads)},
                     {kThreads}, 0, address(a), a.shape(1), a.shape(2), a.shape(3) / kLanes, count,
                     address(out[0]));
      },
      [](const auto& in) { return portable::upsample_nearest_2x(in[0]); }, UpsampleRecipe{});
}

}  // namespace klein::ops::cuda
