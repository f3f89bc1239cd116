#pragma once

#include <optional>
#include <string>
#include <variant>

#include "klein/quant/packed.h"
#include "klein/tensor/mlx.h"

namespace klein::ops {

/// A matrix in few bits: codes as some file format or MLX writes them, and their scales.
struct PackedMatrix {
  quant::Layout layout;
  int rows = 0;
  int columns = 0;
  mx::array codes = mx::array(0);   ///< [rows, n]: bytes, or the 32-bit words of MLX's own formats.
  std::optional<mx::array> scales;  ///< [rows, groups], [rows, 1], or [1, 1] for the whole matrix.
  std::optional<mx::array> biases;  ///< affine: as the scales.
  std::optional<mx::array> column_scales;  ///< [columns] float32
  float global_scale = 1.0f;

  /// Its memory; valid while the matrix lives. The arrays have to be evaluated.
  quant::PackedView view() const;

  /// Bytes of all its arrays.
  std::size_t nbytes() const;
};

/// The weight of a linear layer or an embedding.
using Weight = std::variant<mx::array, PackedMatrix>;

/// "[3072, 7680] Q4_K", for messages.
std::string describe(const Weight& weight);

mx::Shape shape_of(const Weight& weight);

/// Whether MLX's own operations take the matrix as it is.
bool is_mlx_format(const PackedMatrix& matrix);

/// Whether kernels for the GPU take the matrix as it is.
bool is_gpu_format(const PackedMatrix& matrix);

/// The numbers of a packed matrix.
///
/// Shapes   -> [rows, columns]
/// Dtype    decoded in float32, then rounded once to `dtype`
mx::array unpack(const PackedMatrix& matrix, mx::Dtype dtype);

/// Some rows of a weight, as an embedding looks them up.
///
/// Shapes   ids [...] int32 -> [..., columns]
/// Dtype    `dtype`
mx::array take_rows(const Weight& weight, const mx::array& ids, mx::Dtype dtype);

/// Rows [begin, end); they share the memory of the whole.
Weight slice_rows(const Weight& weight, int begin, int end);

/// The rows of several weights of one format under each other.
Weight concatenate_rows(const Weight& first, const Weight& second);

}  // namespace klein::ops
