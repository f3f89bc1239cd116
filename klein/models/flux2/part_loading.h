#pragma once

#include <optional>

#include "klein/models/flux2/model_files.h"
#include "klein/quant/target.h"
#include "klein/tensor/mlx.h"
#include "klein/weights/fill.h"
#include "klein/weights/quantize.h"
#include "klein/weights/tensor_map.h"

namespace klein::flux2 {

/// Fills a module from its tensors; then packs it where there is a target.
///
/// Errors   as weights::weight_map and weights::Filler
template <typename Module>
void fill_part(Module& module, const PartSource& source, mx::Dtype dtype,
               const std::optional<quant::Target>& target) {
  weights::fill(module, weights::weight_map(source.files, source.renaming), dtype,
                source.path.string());
  if (!target) return;
  weights::Quantizer quantizer(*target);
  module.visit(quantizer);
}

}  // namespace klein::flux2
