#include <any>

#include "klein/ops/cuda/cublas.h"
#include "klein/ops/cuda/kernel.h"
#include "klein/ops/cuda/native.h"
#include "klein/ops/cuda/recipes.h"
#include "klein/ops/portable.h"

namespace klein::ops::cuda {
mx::array linear(const mx::array& x, const mx::array& weight,
                 const std::optional<mx::array>& bias) {
  const ProductShape shape{
      .m = row_count(x), .n = weight.shape(0), .k = weight.shape(1), .with_bias = bias.has_value()};
  if (!fits_product(shape)) return portable::linear(x, weight, bias);
  prepare_product(shape);
  auto out = x.shape();
  out.back() = shape.n;
  std::vector<mx::array> inputs{x, weight};
  if (bias) inputs.push_back(*bias);
  return gpu_kernel(
      "linear", std::move(inputs), std::move(out), mx::bfloat16,
      [shape](Launcher& launcher, const auto& in, auto& result) {
        const auto a = launcher.in_row_order(in[0]), w = launcher.in_row_order(in[1]);
        ProductData data{.x = address(a), .weight = address(w), .y = address(result[0])};
        if (shape.with_bias) data.bias = address(in[2]);
        launch_product(launcher, shape, data);
      },
      [](const auto& in) {
        return portable::linear(in[0], in[1], in.size() > 2 ? std::optional(in[2]) : std::nullopt);
      },
      bias ? std::any() : std::any(LinearRecipe{}));
}

bool available() {
  static const bool found = has_image("common");
  return found;
}

bool has_fp8() {
  return available() && compute_capability() >= 89;
}

}  // namespace klein::ops::cuda
