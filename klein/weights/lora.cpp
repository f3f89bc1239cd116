#include "klein/weights/lora.h"

#include <unordered_map>
#include <variant>

namespace klein::weights {
namespace {

mx::array float32(const mx::array& a) {
  return mx::astype(a, mx::float32);
}

mx::array product(const LowRank& factors) {
  return mx::matmul(float32(factors.b), float32(factors.a));
}

mx::array rows(const mx::array& a, int begin, int end) {
  return mx::slice(a, {begin, 0}, {end, a.shape(1)});
}

mx::array halves_swapped(const mx::array& a) {
  const int half = a.shape(0) / 2;
  return mx::concatenate({rows(a, half, 2 * half), rows(a, 0, half)}, 0);
}

mx::array product(const KroneckerProduct& m) {
  const auto whole = mx::kron(float32(m.w1), float32(m.w2));
  return rows(whole, m.skipped, whole.shape(0) - m.cut);
}

/// Rows [begin, end) of the whole of the product: of w1 those that they come from.
KroneckerProduct kronecker_rows(const KroneckerProduct& m, int begin, int end) {
  const int height = m.w2.shape(0);
  const int first = begin / height, last = (end + height - 1) / height;
  return {rows(m.w1, first, last), m.w2, begin - first * height, last * height - end};
}

template <typename... Cases>
struct Overloaded : Cases... {
  using Cases::operator()...;
};
template <typename... Cases>
Overloaded(Cases...) -> Overloaded<Cases...>;

mx::array widened(const ops::Weight& weight) {
  if (const auto* dense = std::get_if<mx::array>(&weight)) return float32(*dense);
  return float32(ops::unpack(std::get<ops::PackedMatrix>(weight), mx::bfloat16));
}

mx::Dtype dtype_of(const ops::Weight& weight) {
  const auto* dense = std::get_if<mx::array>(&weight);
  return dense != nullptr ? dense->dtype() : mx::bfloat16;
}

}  // namespace

std::pair<std::int64_t, std::int64_t> size_of(const LoraMatrix& matrix) {
  using Size = std::pair<std::int64_t, std::int64_t>;
  return std::visit(
      Overloaded{
          [](const LowRank& m) { return Size(m.b.shape(0), m.a.shape(1)); },
          [](const HadamardProduct& m) { return Size(m.first.b.shape(0), m.first.a.shape(1)); },
          [](const KroneckerProduct& m) {
            return Size(std::int64_t{m.w1.shape(0)} * m.w2.shape(0) - m.skipped - m.cut,
                        std::int64_t{m.w1.shape(1)} * m.w2.shape(1));
          },
          [](const mx::array& m) { return Size(m.shape(0), m.shape(1)); }},
      matrix);
}

mx::array product(const LoraMatrix& matrix) {
  return std::visit(
      Overloaded{[](const LowRank& m) { return product(m); },
                 [](const HadamardProduct& m) { return product(m.first) * product(m.second); },
                 [](const KroneckerProduct& m) { return product(m); },
                 [](const mx::array& m) { return float32(m); }},
      matrix);
}

LoraMatrix rows_of(const LoraMatrix& matrix, int begin, int end) {
  const auto low_rank = [&](const LowRank& m) { return LowRank{m.a, rows(m.b, begin, end)}; };
  return std::visit(
      Overloaded{[&](const LowRank& m) -> LoraMatrix { return low_rank(m); },
                 [&](const HadamardProduct& m) -> LoraMatrix {
                   return HadamardProduct{low_rank(m.first), low_rank(m.second)};
                 },
                 [&](const KroneckerProduct& m) -> LoraMatrix {
                   return kronecker_rows(m, m.skipped + begin, m.skipped + end);
                 },
                 [&](const mx::array& m) -> LoraMatrix { return rows(m, begin, end); }},
      matrix);
}

LoraMatrix with_halves_swapped(const LoraMatrix& matrix) {
  const auto low_rank = [](const LowRank& m) { return LowRank{m.a, halves_swapped(m.b)}; };
  return std::visit(Overloaded{[&](const LowRank& m) -> LoraMatrix { return low_rank(m); },
                               [&](const HadamardProduct& m) -> LoraMatrix {
                                 return HadamardProduct{low_rank(m.first), low_rank(m.second)};
                               },
                               [&](const KroneckerProduct& m) -> LoraMatrix {
                                 const bool is_whole = m.skipped == 0 && m.cut == 0;
                                 if (is_whole && m.w1.shape(0) % 2 == 0)
                                   return KroneckerProduct{halves_swapped(m.w1), m.w2};
                                 return halves_swapped(product(m));
                               },
                               [](const mx::array& m) -> LoraMatrix { return halves_swapped(m); }},
                    matrix);
}

LoraMatrix in_dtype(const LoraMatrix& matrix, mx::Dtype compute_dtype) {
  const auto cast = [&](const mx::array& a) {
    const bool widened_on_the_fly =
        mx::default_device() == mx::Device::cpu && a.dtype() == mx::bfloat16;
    auto result = widened_on_the_fly ? a : mx::astype(a, compute_dtype);
    mx::eval(result);
    return result;
  };
  return std::visit(Overloaded{[&](const LowRank& m) -> LoraMatrix {
                                 return LowRank{cast(m.a), cast(m.b)};
                               },
                               [](const HadamardProduct& m) -> LoraMatrix { return m; },
                               [&](const KroneckerProduct& m) -> LoraMatrix {
                                 return KroneckerProduct{cast(m.w1), cast(m.w2), m.skipped, m.cut};
                               },
                               [&](const mx::array& m) -> LoraMatrix { return cast(m); }},
                    matrix);
}

void merge(WeightMap& weights, const std::vector<LoraDelta>& deltas) {
  std::unordered_map<std::string, mx::array> sums;
  for (const auto& delta : deltas) {
    const auto weight = weights.find(delta.weight);
    if (weight == weights.end()) continue;
    const auto sum = sums.try_emplace(delta.weight, widened(weight->second)).first;
    sum->second = sum->second + mx::array(static_cast<float>(delta.scale)) * product(delta.matrix);
  }
  for (const auto& [name, sum] : sums) {
    auto& weight = weights.at(name);
    weight = mx::astype(sum, dtype_of(weight));
  }
}

}  // namespace klein::weights
