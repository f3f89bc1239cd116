#pragma once

#include <compare>
#include <vector>

#include "klein/models/flux2/config.h"
#include "klein/models/qwen3/config.h"

namespace klein::flux2 {

/// A matrix product, x [rows, in] by a weight [out, in].
struct Product {
  int rows = 0, in = 0, out = 0;

  auto operator<=>(const Product&) const = default;
  double flops() const { return 2.0 * rows * in * out; }
};

/// The matrix products of a step of one picture, with as few as its weights allow: what shares an
/// input is one product. Each block has an attention over all tokens besides.
struct StepProducts {
  std::vector<Product> outside;  ///< Of the blocks.
  std::vector<Product> double_block, single_block;
};

/// Those of `text` and `image` tokens; what depends on the timestep alone is left out.
StepProducts step_products(const TransformerConfig& config, int text, int image);

/// Floating-point operations, a multiply and an add counted as two; products and attention only.

/// One pass of the first `layers` layers of the text encoder over one prompt of `tokens`.
double text_flops(const qwen3::TextEncoderConfig& config, int layers, int tokens);

/// One pass of the transformer over `text` and `image` tokens of one picture.
double step_flops(const TransformerConfig& config, int text, int image);

/// Decoding one picture of `rows` x `columns` latent pixels.
double decode_flops(const VaeConfig& config, int rows, int columns);

}  // namespace klein::flux2
