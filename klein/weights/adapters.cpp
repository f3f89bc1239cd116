#include "klein/weights/adapters.h"

#include "klein/nn/linear.h"

namespace klein::weights {

void AdapterSetter::on_linear(const std::string& path, nn::Linear& layer) {
  const auto found = adapters_.find(prefix_ + path + ".weight");
  layer.adapters = found == adapters_.end() ? std::vector<nn::Adapter>() : found->second;
}

}  // namespace klein::weights
