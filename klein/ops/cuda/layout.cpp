#include <algorithm>

#include "klein/ops/cuda/fp8.h"
#include "klein/ops/cuda/joined.h"
#include "klein/ops/cuda/kernel.h"
#include "klein/ops/cuda/native.h"
#include "klein/ops/cuda/recipes.h"
#include "klein/ops/portable.h"

namespace klein::ops::cuda {

mx::array columns(const mx::array& x, int begin, int end) {
  if (const auto* product = recipe_of<Fp8LinearRecipe>(x)) {
    const auto rows_of = [&](const mx::array& a) {
      return mx::slice(a, {begin, 0}, {end, a.shape(1)});
    };
    return fp8_linear(product->x, rows_of(product->codes), rows_of(product->scales));
  }
  if (recipe_of<LinearRecipe>(x) == nullptr) return portable::columns(x, begin, end);
  const auto& weight = x.inputs()[1];
  return cuda::linear(x.inputs()[0], mx::slice(weight, {begin, 0}, {end, weight.shape(1)}));
}

mx::array concatenate(const std::vector<mx::array>& parts, int axis) {
  const auto is_norm_rope = [](const mx::array& part) { return recipe_of<NormRopeRecipe>(part); };
  if (axis == 1 && std::ranges::all_of(parts, is_norm_rope)) return joined_norm_rope(parts);
  const auto* seen = axis == -1 && parts.size() == 2 ? attention_of(parts[0]) : nullptr;
  if (seen != nullptr && recipe_of<SwigluProductRecipe>(parts[1]))
    return joined_attention_swiglu(*seen, parts[1]);
  if (axis == -1 && parts.size() == 2 && recipe_of<SwigluRecipe>(parts[1]))
    return joined_swiglu(parts[0], parts[1]);
  return mx::concatenate(parts, axis);
}

}  // namespace klein::ops::cuda
