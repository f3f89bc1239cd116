#pragma once

#include <cstdint>

namespace klein::ops::native {

/// The running softmax of a few dozen queries, one query a column: keys go through in blocks and
/// only the sums stay. Everything is float32.
///
/// With columns for queries no step needs a transposed block of keys or values, and no sum runs
/// across a vector.
struct AttentionPanel {
  const float* queries;     ///< [width, columns], already times the scale
  float* sums;              ///< [width, columns], sum of weight * value so far
  float* highest;           ///< [columns], highest score so far, -infinity at first
  float* total;             ///< [columns], sum of weights so far
  const std::int32_t* end;  ///< [columns], number of keys that the query sees; null: all of them
};

/// One block of keys and values in row order.
struct AttentionKeys {
  const float* keys;    ///< [count, width]
  const float* values;  ///< [count, width]
  int count;            ///< at most kKeyBlock
  int first;            ///< position of the first key in the sequence
};

inline constexpr int kKeyBlock = 64;

/// c[i, :] = sum over k of a[i * a_row + k * a_step] * b[k, :], added to the old c or not.
///
/// Shapes   b [steps, parts * lanes] and c [rows, parts * lanes], aligned as registers are
struct Product {
  const float* a;
  std::int64_t a_row, a_step;
  int rows, steps;
  int parts;  ///< registers in a row, 1 to kMostParts
  const float* b;
  float* c;
  bool add;
};

inline constexpr int kMostParts = 3;

/// Code for one kind of processor, whose registers decide how many columns it takes at once.
struct Tile {
  int lanes;  ///< floats in a register

  int columns() const { return lanes * kMostParts; }  ///< of an attention panel

  void (*multiply)(const Product& product);

  /// Takes one block of keys into the panel; `scores` is scratch of [kKeyBlock, columns].
  void (*absorb)(const AttentionPanel& panel, const AttentionKeys& block, int width, float* scores);
};

/// The fastest tile that this processor can run.
const Tile& tile();

}  // namespace klein::ops::native
