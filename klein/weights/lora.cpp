#include "klein/weights/lora.h"

#include <unordered_map>

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
  return std::visit(Overloaded{[](const LowRank& m) { return Size(m.b.shape(0), m.a.shape(1)); },
                               [](const HadamardProduct& m) {
                                 return Size(m.first.b.shape(0), m.first.a.shape(1));
                               },
                               [](const KroneckerProduct& m) {
                                 return Size(std::int64_t{m.w1.shape(0)} * m.w2.shape(0),
                                             std::int64_t{m.w1.shape(1)} * m.w2.shape(1));
                               },
                               [](const mx::array& m) { return Size(m.shape(0), m.shape(1)); }},
                    matrix);
}

mx::array product(const LoraMatrix& matrix) {
  return std::visit(
      Overloaded{[](const LowRank& m) { return product(m); },
                 [](const HadamardProduct& m) { return product(m.first) * product(m.second); },
                 [](const KroneckerProduct& m) { return mx::kron(float32(m.w1), float32(m.w2)); },
                 [](const mx::array& m) { return float32(m); }},
      matrix);
}

LoraMatrix rows_of(const LoraMatrix& matrix, int begin, int end) {
  if (const auto* m = std::get_if<LowRank>(&matrix)) return LowRank{m->a, rows(m->b, begin, end)};
  return rows(product(matrix), begin, end);
}

LoraMatrix with_halves_swapped(const LoraMatrix& matrix) {
  const auto* low_rank = std::get_if<LowRank>(&matrix);
  const auto whole = low_rank != nullptr ? low_rank->b : product(matrix);
  const int half = whole.shape(0) / 2;
  auto swapped = mx::concatenate({rows(whole, half, 2 * half), rows(whole, 0, half)}, 0);
  if (low_rank != nullptr) return LowRank{low_rank->a, std::move(swapped)};
  return swapped;
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
