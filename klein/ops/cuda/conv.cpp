#include "klein/ops/cuda/conv.h"

#include <any>
#include <utility>

#include "klein/ops/cuda/hopper.h"
#include "klein/ops/cuda/kernel.h"
#include "klein/ops/cuda/native.h"
#include "klein/ops/cuda/recipes.h"
#include "klein/ops/portable.h"

namespace klein::ops::cuda {
namespace {

constexpr unsigned kThreads = 256;

/// Of x + bias.
struct BiasRecipe {};

/// Of a convolution by the kernel for Hopper; inputs x, weight, bias.
struct ConvRecipe {};

/// Inputs x, weight, bias and, for x + convolution, that x.
mx::array hopper_conv(std::vector<mx::array> inputs) {
  auto shape = inputs[0].shape();
  shape[3] = inputs[1].shape(0);
  const auto recipe = inputs.size() == 3 ? std::any(ConvRecipe{}) : std::any();
  return gpu_kernel(
      "conv3x3", std::move(inputs), std::move(shape), mx::bfloat16,
      [](Launcher& launcher, const auto& in, auto& out) {
        const auto x = launcher.in_row_order(in[0]), weight = launcher.in_row_order(in[1]);
        const auto residual = in.size() > 3 ? launcher.in_row_order(in[3]) : x;
        launch_conv(launcher, x, weight, address(in[2]),
                    in.size() > 3 ? address(residual) : nullptr, /*doubled=*/false, out[0]);
      },
      [](const auto& in) {
        const auto y = portable::conv2d(in[0], in[1], in[2], 1, {1, 1, 1, 1});
        return in.size() > 3 ? y + in[3] : y;
      },
      recipe);
}

/// The same of x enlarged twice, of which 4/9 of the work is left.
mx::array hopper_doubled_conv(const mx::array& x, const mx::array& weight, const mx::array& bias) {
  const mx::Shape shape{x.shape(0), 2 * x.shape(1), 2 * x.shape(2), weight.shape(0)};
  return gpu_kernel(
      "doubled_conv3x3", {x, weight, bias}, shape, mx::bfloat16,
      [](Launcher& launcher, const auto& in, auto& out) {
        const auto picture = launcher.in_row_order(in[0]), taps = launcher.in_row_order(in[1]);
        const int outputs = taps.shape(0), channels = taps.shape(3);
        const auto count = std::int64_t{16} * outputs * channels;
        const auto sums = launcher.scratch(static_cast<std::size_t>(count) * 2);
        launcher.run(function("picture", "doubled_weight_bf16"), {blocks_for(count, kThreads)},
                     {kThreads}, 0, address(taps), outputs, channels, address(sums));
        launch_conv(launcher, picture, sums, address(in[2]), nullptr, /*doubled=*/true, out[0]);
      },
      [](const auto& in) {
        return portable::conv2d(portable::upsample_nearest_2x(in[0]), in[1], in[2], 1,
                                {1, 1, 1, 1});
      });
}

/// x + bias, + other where there is one.
mx::array add_bias(std::vector<mx::array> inputs) {
  const auto shape = inputs[0].shape();
  const auto recipe = inputs.size() == 2 ? std::any(BiasRecipe{}) : std::any();
  return gpu_kernel(
      "add_bias", std::move(inputs), shape, mx::bfloat16,
      [](Launcher& launcher, const auto& in, auto& out) {
        const auto x = launcher.in_row_order(in[0]), bias = launcher.in_row_order(in[1]);
        const auto other = in.size() > 2 ? launcher.in_row_order(in[2]) : x;
        const auto count = static_cast<std::int64_t>(x.size());
        launcher.run(function("picture", "add_bias_bf16"), {blocks_for(count, kThreads * kLanes)},
                     {kThreads}, 0, address(x), address(bias),
                     in.size() > 2 ? address(other) : nullptr, x.shape(-1), count, address(out[0]));
      },
      [](const auto& in) {
        const auto sum = in[0] + in[1];
        return in.size() > 2 ? sum + in[2] : sum;
      },
      recipe);
}

}  // namespace

std::vector<mx::array> inputs_of_biased(const mx::array& x) {
  return recipe_of<BiasRecipe>(x) ? x.inputs() : std::vector<mx::array>{x};
}

mx::array conv2d(const mx::array& x, const mx::array& weight, const std::optional<mx::array>& bias,
                 int stride, Padding padding) {
  const bool one_by_one = weight.shape(1) == 1 && weight.shape(2) == 1 && stride == 1 &&
                          padding.top + padding.bottom + padding.left + padding.right == 0;
  if (one_by_one) return cuda::linear(x, mx::flatten(weight, 1, 3), bias);
  const bool keeps_size = stride == 1 && padding.top == 1 && padding.bottom == 1 &&
                          padding.left == 1 && padding.right == 1;
  if (bias && keeps_size && fits_conv(weight)) {
    if (recipe_of<UpsampleRecipe>(x)) return hopper_doubled_conv(x.inputs()[0], weight, *bias);
    return hopper_conv({x, weight, *bias});
  }
  const auto y = portable::conv2d(x, weight, std::nullopt, stride, padding);
  if (!bias) return y;
  return weight.shape(0) % kLanes == 0 ? add_bias({y, *bias}) : y + *bias;
}

mx::array add(const mx::array& x, const mx::array& y) {
  for (const auto& [sum, other] : {std::pair{y, x}, {x, y}}) {
    if (!recipe_of<BiasRecipe>(sum) && !recipe_of<ConvRecipe>(sum)) continue;
    auto inputs = sum.inputs();
    inputs.push_back(other);
    return recipe_of<BiasRecipe>(sum) ? add_bias(inputs) : hopper_conv(inputs);
  }
  return portable::add(x, y);
}

}  // namespace klein::ops::cuda
