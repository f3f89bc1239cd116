#include "klein/nn/module.h"

#include "klein/nn/conv.h"
#include "klein/nn/linear.h"

namespace klein::nn {

void Visitor::on_linear(const std::string& path, Linear& layer) {
  on_weight(path + ".weight", layer.weight);
  if (layer.bias) on_array(path + ".bias", *layer.bias);
}

void Visitor::on_embedding(const std::string& path, Embedding& layer) {
  on_weight(path + ".weight", layer.weight);
}

void Visitor::on_weight(const std::string& path, ops::Weight& weight) {
  if (auto* dense = std::get_if<mx::array>(&weight)) return on_array(path, *dense);
  auto& packed = std::get<ops::PackedMatrix>(weight);
  const auto stem = path.substr(0, path.rfind(".weight"));
  on_array(path, packed.codes);
  if (packed.scales) on_array(stem + ".scales", *packed.scales);
  if (packed.biases) on_array(stem + ".biases", *packed.biases);
  if (packed.column_scales) on_array(stem + ".column_scales", *packed.column_scales);
}

void Visitor::on_conv(const std::string& path, Conv2d& layer) {
  on_array(path + ".weight", layer.weight);
  on_array(path + ".bias", layer.bias);
}

}  // namespace klein::nn
