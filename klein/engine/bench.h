#pragma once

#include <functional>

#include "klein/engine/engine.h"
#include "klein/models/flux2/checkpoint.h"
#include "klein/tensor/mlx.h"

namespace klein {

/// What Engine::bench does; `generate` makes a picture.
///
/// Errors   as BenchRequest::validate, and `generate`
/// Thread   device thread only
BenchReport run_bench(const flux2::Checkpoint& checkpoint, mx::Dtype dtype,
                      const BenchRequest& request,
                      const std::function<GenerateResult(const GenerateRequest&)>& generate);

}  // namespace klein
