#pragma once

#include <cstdint>

#include "klein/nn/module.h"
#include "klein/ops/weight.h"
#include "klein/quant/target.h"

namespace klein::weights {

/// Whether a matrix of so many columns can be packed: they have to fill whole groups.
bool can_quantize(const quant::Target& target, int columns);

/// Bytes of the matrix once it is packed.
std::uint64_t packed_bytes(const quant::Target& target, std::int64_t rows, std::int64_t columns);

/// Whether a matrix has this packing already, in a form that a file of ours can hold as it is.
bool is_packed_as(const ops::PackedMatrix& matrix, const quant::Target& target);

/// A dense matrix in fewer bits, computed when it is needed: affine in groups of 64 as mflux and
/// MLX do it, MXFP8, MXFP4 and NVFP4 as MLX has them, FP8 (E4M3) with one scale for each row.
///
/// Shapes   weight [rows, columns]
/// Dtype    rounded to bfloat16 first, as mflux does, so that scales are bfloat16
/// Source   mlx.core.quantize
ops::PackedMatrix quantize(const mx::array& weight, const quant::Target& target);

/// Packs every linear layer and embedding of a tree of modules whose columns fill whole groups, one
/// after the other; what is packed already is packed anew unless it has that format.
class Quantizer : public nn::Visitor {
 public:
  explicit Quantizer(const quant::Target& target) : target_(target) {}

  void on_array(const std::string&, mx::array&) override {}
  void on_weight(const std::string& path, ops::Weight& weight) override;
  void on_linear(const std::string& path, nn::Linear& layer) override;

 private:
  quant::Target target_;
};

}  // namespace klein::weights
