#pragma once

#include "klein/models/flux2/checkpoint.h"
#include "klein/models/flux2/lora.h"
#include "klein/weights/fill.h"
#include "klein/weights/quantize.h"
#include "klein/weights/tensor_map.h"

namespace klein::flux2 {

/// What the options pack the weights of a part into.
inline const std::optional<quant::Target>& target_of(PartKind kind, const LoadOptions& options) {
  return kind == PartKind::transformer    ? options.quantize_transformer
         : kind == PartKind::text_encoder ? options.quantize_text_encoder
                                          : options.quantize_vae;
}

/// Fills a module from its tensors, with the LoRAs merged into them; then packs it where the
/// options say so.
///
/// Errors   as weights::weight_map and weights::fill
template <typename Module>
void fill_part(Module& module, const PartSource& source, const LoadOptions& options) {
  auto map = weights::weight_map(source.files, source.renaming);
  const auto& target = target_of(source.kind, options);
  merge(map, options.loras, source, target);
  weights::fill(module, std::move(map), options.dtype, source.path.string());
  if (!target) return;
  weights::Quantizer quantizer(*target);
  module.visit(quantizer);
}

}  // namespace klein::flux2
