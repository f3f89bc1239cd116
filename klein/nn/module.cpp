#include "klein/nn/module.h"

#include "klein/nn/conv.h"
#include "klein/nn/linear.h"

namespace klein::nn {

void Visitor::on_linear(const std::string& path, Linear& layer) {
  on_array(path + ".weight", layer.weight);
  if (layer.bias) on_array(path + ".bias", *layer.bias);
}

void Visitor::on_conv(const std::string& path, Conv2d& layer) {
  on_array(path + ".weight", layer.weight);
  on_array(path + ".bias", layer.bias);
}

}  // namespace klein::nn
