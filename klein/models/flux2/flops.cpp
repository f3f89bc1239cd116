#include "klein/models/flux2/flops.h"

namespace klein::flux2 {
namespace {

double product(double rows, double in, double out) {
  return 2.0 * rows * in * out;
}

/// Scores and weighted values of every query with every key.
double attention(double queries, double keys, double width) {
  return 4.0 * queries * keys * width;
}

double resnets(int count, double pixels, double in, double out) {
  double flops = 0.0;
  for (int i = 0; i < count; ++i) {
    const double first = i == 0 ? in : out;
    flops += product(pixels, 9 * first, out) + product(pixels, 9 * out, out);
    if (first != out) flops += product(pixels, first, out);
  }
  return flops;
}

}  // namespace

double text_flops(const qwen3::TextEncoderConfig& c, int layers, int tokens) {
  const double heads = static_cast<double>(c.num_attention_heads) * c.head_dim;
  const double kv_heads = static_cast<double>(c.num_key_value_heads) * c.head_dim;
  const double layer = product(tokens, c.hidden_size, heads + 2 * kv_heads) +
                       product(tokens, heads, c.hidden_size) +
                       3 * product(tokens, c.hidden_size, c.intermediate_size) +
                       attention(tokens, tokens, heads) / 2;  // causal: half of the scores
  return layers * layer;
}

StepProducts step_products(const TransformerConfig& c, int text, int image) {
  const int dim = c.dim(), mlp = c.mlp_dim();
  StepProducts products{
      .outside = {{image, c.in_channels, dim},
                  {text, c.joint_attention_dim, dim},
                  {image, dim, c.in_channels}},
      .double_block = {},
      .single_block = {{text + image, dim, 3 * dim + 2 * mlp}, {text + image, dim + mlp, dim}}};
  for (const int rows : {image, text})
    products.double_block.insert(
        products.double_block.end(),
        {{rows, dim, 3 * dim}, {rows, dim, dim}, {rows, dim, 2 * mlp}, {rows, mlp, dim}});
  return products;
}

double step_flops(const TransformerConfig& c, int text, int image) {
  const auto products = step_products(c, text, image);
  const auto sum = [](const std::vector<Product>& some) {
    double flops = 0.0;
    for (const auto& one : some) flops += one.flops();
    return flops;
  };
  const double tokens = text + image;
  const double seen = attention(tokens, tokens, c.dim());
  return sum(products.outside) + c.num_layers * (sum(products.double_block) + seen) +
         c.num_single_layers * (sum(products.single_block) + seen);
}

double decode_flops(const VaeConfig& c, int rows, int columns) {
  double pixels = static_cast<double>(rows) * columns;
  const auto& widths = c.decoder_block_out_channels;
  double in = widths.back();
  double flops = product(pixels, 9.0 * c.latent_channels, in) + resnets(2, pixels, in, in);
  if (c.mid_block_add_attention)
    flops += product(pixels, in, 4 * in) + attention(pixels, pixels, in);
  for (auto out = widths.rbegin(); out != widths.rend(); ++out) {
    flops += resnets(c.layers_per_block + 1, pixels, in, *out);
    in = *out;
    if (out + 1 == widths.rend()) break;
    pixels *= 4;
    flops += product(pixels, 9 * in, in);
  }
  return flops + product(pixels, 9 * in, c.out_channels);
}

}  // namespace klein::flux2
