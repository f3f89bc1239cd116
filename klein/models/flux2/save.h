#pragma once

#include "klein/core/progress.h"
#include "klein/models/flux2/checkpoint.h"
#include "klein/pipeline/save_request.h"

namespace klein::flux2 {

/// Writes a model to a folder, all of it or nothing; its tokenizer and its JSON files with it. The
/// LoRAs of `options` are merged into its weights before these are packed.
///
/// mflux's layout holds bfloat16, or matrices packed as weights::quantize does where `options` says
/// so; the others hold the dtypes of the source, and bfloat16 for what it held packed. Not more
/// than one tensor is in memory at a time.
///
/// BFL's files hold tensors alone, so that a model whose settings are not those that every reader
/// takes for granted cannot be saved in them; their names say the variant.
///
/// Errors   Error(usage) when the folder exists and is not empty, or a layout cannot hold quantized
///          weights; Error(unsupported) when BFL's layout cannot hold the model; Error(shape) when
///          the weights do not fit the model; Error(io) when the system refuses; Error(cancelled)
/// Source   mflux model_saver.py (layout), diffusers save_pretrained
SaveResult save(const Checkpoint& checkpoint, const LoadOptions& options,
                const SaveRequest& request, const ProgressCallback& progress);

}  // namespace klein::flux2
