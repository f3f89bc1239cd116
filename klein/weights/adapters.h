#pragma once

#include <string>
#include <unordered_map>
#include <utility>
#include <vector>

#include "klein/nn/adapter.h"
#include "klein/nn/module.h"

namespace klein::weights {

/// What run-time LoRAs add to linear layers, by the names of their weights.
using AdapterMap = std::unordered_map<std::string, std::vector<nn::Adapter>>;

/// Gives every linear layer of a tree of modules its adapters, and takes away those that it had.
class AdapterSetter : public nn::Visitor {
 public:
  /// `prefix` is what stands before the names of this tree in the map. The map has to outlive the
  /// visitor.
  explicit AdapterSetter(const AdapterMap& adapters, std::string prefix = {})
      : adapters_(adapters), prefix_(std::move(prefix)) {}

  void on_array(const std::string&, mx::array&) override {}
  void on_linear(const std::string& path, nn::Linear& layer) override;

 private:
  const AdapterMap& adapters_;
  std::string prefix_;
};

/// Does it for a whole tree of modules; see AdapterSetter.
template <typename Module>
void set_adapters(Module& module, const AdapterMap& adapters, const std::string& prefix = {}) {
  AdapterSetter setter(adapters, prefix);
  module.visit(setter);
}

}  // namespace klein::weights
