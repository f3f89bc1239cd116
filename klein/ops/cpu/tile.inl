// The body of a Tile. Included once for each kind of processor, inside a namespace of its
// own, with KLEIN_TARGET, kVector (floats in a register) and kSums (registers that hold sums)
// defined: vector code must be compiled for its processor from the start, it cannot be inlined into
// a function for another one.

using Vector = float __attribute__((vector_size(kVector * sizeof(float)), may_alias));
using Integers = std::int32_t __attribute__((vector_size(kVector * sizeof(float)), may_alias));

constexpr int kParts = kMostParts;  // registers in a row of an attention panel
constexpr int kDepth = 128;         // products in one chain of a score

/// x in every place; x - 0 is x for every float, so that the subtraction costs nothing.
KLEIN_TARGET inline Vector all_of(float x) {
  return x - Vector{};
}

/// e^x for x <= 0, as `exponential` computes it.
KLEIN_TARGET inline Vector exponential_below_zero(Vector x) {
  const Vector round = all_of(12582912.0f);
  const Vector lowest = all_of(-87.33654f);
  const Vector in = x < lowest ? lowest : x;
  const Vector shifted = in * 1.44269504f + round;
  const Vector n = shifted - round;
  const Vector r = (in - n * 0.693359375f) - n * -2.12194440e-4f;
  Vector p = all_of(1.9875691500e-4f);
  p = p * r + 1.3981999507e-3f;
  p = p * r + 8.3334519073e-3f;
  p = p * r + 4.1665795894e-2f;
  p = p * r + 1.6666665459e-1f;
  p = p * r + 5.0000001201e-1f;
  p = p * (r * r) + r + 1.0f;
  const Integers power = ((Integers)shifted - (Integers)round + 127) << 23;
  p = p * (Vector)power;
  return x < lowest ? Vector{} : p;
}

/// c[i, :] = c[i, :] * keep + sum over k of a[i * a_row + k * a_step] * b[k, :], for Rows rows of
/// Parts registers. Without `keep` the old c is not read. The old c comes in last: a long sum that is
/// made of several calls loses fewer bits than one long chain.
template <int Rows, int Parts>
KLEIN_TARGET inline void multiply_rows(const float* a, std::int64_t a_row, std::int64_t a_step,
                                       const float* b, int steps, const Vector* keep, float* c) {
  Vector sums[Rows][Parts];
  auto* out = reinterpret_cast<Vector*>(c);
#pragma GCC unroll 24
  for (int i = 0; i < Rows; ++i)
#pragma GCC unroll 3
    for (int j = 0; j < Parts; ++j) sums[i][j] = Vector{};
  const auto* right = reinterpret_cast<const Vector*>(b);
  for (int k = 0; k < steps; ++k, a += a_step, right += Parts) {
    Vector row[Parts];
#pragma GCC unroll 3
    for (int j = 0; j < Parts; ++j) row[j] = right[j];
#pragma GCC unroll 24
    for (int i = 0; i < Rows; ++i) {
      const Vector left = all_of(a[i * a_row]);
#pragma GCC unroll 3
      for (int j = 0; j < Parts; ++j) sums[i][j] += left * row[j];
    }
  }
#pragma GCC unroll 24
  for (int i = 0; i < Rows; ++i)
#pragma GCC unroll 3
    for (int j = 0; j < Parts; ++j) {
      auto& c_part = out[i * Parts + j];
      c_part = keep ? c_part * keep[j] + sums[i][j] : sums[i][j];
    }
}

/// The same for any number of rows.
template <int Parts>
KLEIN_TARGET inline void multiply_all(const float* a, std::int64_t a_row, std::int64_t a_step,
                                      int rows, const float* b, int steps, const Vector* keep,
                                      float* c) {
  constexpr int kRows = kSums / Parts, kColumns = Parts * kVector;
  int i = 0;
  for (; i + kRows <= rows; i += kRows)
    multiply_rows<kRows, Parts>(a + i * a_row, a_row, a_step, b, steps, keep, c + i * kColumns);
  for (; i < rows; ++i)
    multiply_rows<1, Parts>(a + i * a_row, a_row, a_step, b, steps, keep, c + i * kColumns);
}

/// Scores of keys that a query does not see become -infinity.
KLEIN_TARGET inline void hide(const std::int32_t* end, int first, int count, Vector* scores) {
  const auto* limit = reinterpret_cast<const Integers*>(end);
  const Vector never = all_of(-__builtin_inff());
  for (int k = 0; k < count; ++k)
    for (int j = 0; j < kParts; ++j) {
      auto& score = scores[k * kParts + j];
      score = (Integers{} + (first + k)) < limit[j] ? score : never;
    }
}

/// Scores become weights relative to the highest score so far; returns in `keep` what the old sums
/// have to be multiplied by.
KLEIN_TARGET inline void weigh(const AttentionPanel& panel, int count, Vector* scores,
                               Vector* keep) {
  auto* highest = reinterpret_cast<Vector*>(panel.highest);
  auto* total = reinterpret_cast<Vector*>(panel.total);
  const Vector never = all_of(-__builtin_inff());
  Vector base[kParts], sum[kParts];
  for (int j = 0; j < kParts; ++j) {
    Vector top = highest[j];
    for (int k = 0; k < count; ++k) {
      const Vector score = scores[k * kParts + j];
      top = score > top ? score : top;
    }
    // A query that has seen no key yet: -infinity minus itself would be NaN.
    base[j] = top == never ? Vector{} : top;
    keep[j] = exponential_below_zero(highest[j] - base[j]);
    sum[j] = total[j] * keep[j];
    highest[j] = top;
  }
  for (int k = 0; k < count; ++k)
    for (int j = 0; j < kParts; ++j) {
      const Vector weight = exponential_below_zero(scores[k * kParts + j] - base[j]);
      sum[j] += weight;
      scores[k * kParts + j] = weight;
    }
  for (int j = 0; j < kParts; ++j) total[j] = sum[j];
}

KLEIN_TARGET void absorb(const AttentionPanel& panel, const AttentionKeys& block, int width,
                         float* scores) {
  auto* rows = reinterpret_cast<Vector*>(scores);
  Vector keep[kParts];
  const Vector once[kParts] = {all_of(1.0f), all_of(1.0f), all_of(1.0f)};
  for (int from = 0; from < width; from += kDepth)
    multiply_all<kParts>(block.keys + from, width, 1, block.count,
                         panel.queries + from * kParts * kVector,
                         width - from < kDepth ? width - from : kDepth, from > 0 ? once : nullptr,
                         scores);
  if (panel.end) hide(panel.end, block.first, block.count, rows);
  weigh(panel, block.count, rows, keep);
  multiply_all<kParts>(block.values, 1, width, width, scores, block.count, keep, panel.sums);
}

KLEIN_TARGET void multiply(const Product& p) {
  const Vector once[kMostParts] = {all_of(1.0f), all_of(1.0f), all_of(1.0f)};
  const Vector* keep = p.add ? once : nullptr;
  if (p.parts == 1)
    multiply_all<1>(p.a, p.a_row, p.a_step, p.rows, p.b, p.steps, keep, p.c);
  else if (p.parts == 2)
    multiply_all<2>(p.a, p.a_row, p.a_step, p.rows, p.b, p.steps, keep, p.c);
  else
    multiply_all<3>(p.a, p.a_row, p.a_step, p.rows, p.b, p.steps, keep, p.c);
}
