#pragma once

#include "klein/models/flux2/config.h"
#include "klein/models/qwen3/config.h"

namespace klein::flux2 {

/// Floating-point operations, a multiply and an add counted as two; products and attention only.

/// One pass of the first `layers` layers of the text encoder over one prompt of `tokens`.
double text_flops(const qwen3::TextEncoderConfig& config, int layers, int tokens);

/// One pass of the transformer over `text` and `image` tokens of one picture.
double step_flops(const TransformerConfig& config, int text, int image);

/// Decoding one picture of `rows` x `columns` latent pixels.
double decode_flops(const VaeConfig& config, int rows, int columns);

}  // namespace klein::flux2
