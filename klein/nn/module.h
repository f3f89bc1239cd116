#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "klein/ops/weight.h"
#include "klein/tensor/mlx.h"

namespace klein::nn {

struct Embedding;
struct Linear;
struct Conv2d;

/// Walks a tree of modules in declaration order and hands over every weight under its full name.
///
/// A module is a plain struct with `void visit(Visitor&)`, the one list of its children. Loading,
/// saving, quantizing, LoRA and training are visitors; no module knows about any of them.
class Visitor {
 public:
  virtual ~Visitor() = default;

  /// One tensor. `path` is the full name: "transformer_blocks.3.attn.norm_q.weight".
  virtual void on_array(const std::string& path, mx::array& value) = 0;

  /// One weight that may be packed. By default its arrays are visited: a packed one's codes under
  /// the name itself, the others beside it as `.scales`, `.biases` and `.column_scales`.
  virtual void on_weight(const std::string& path, ops::Weight& weight);

  /// One linear layer. By default its weight and bias are visited.
  virtual void on_linear(const std::string& path, Linear& layer);

  /// One table of embeddings. By default its weight is visited.
  virtual void on_embedding(const std::string& path, Embedding& layer);

  /// One convolution. By default its arrays are visited.
  virtual void on_conv(const std::string& path, Conv2d& layer);

  void array(std::string_view name, mx::array& value) {
    on_array(prefix_ + std::string(name), value);
  }
  void linear(std::string_view name, Linear& layer) {
    on_linear(prefix_ + std::string(name), layer);
  }
  void embedding(std::string_view name, Embedding& layer) {
    on_embedding(prefix_ + std::string(name), layer);
  }
  void conv(std::string_view name, Conv2d& layer) { on_conv(prefix_ + std::string(name), layer); }

  template <typename Module>
  void child(std::string_view name, Module& module) {
    const auto parent_length = prefix_.size();
    prefix_.append(name).append(".");
    module.visit(*this);
    prefix_.resize(parent_length);
  }

  /// Numbered children: name.0, name.1, ...
  template <typename Module>
  void children(std::string_view name, std::vector<Module>& modules) {
    for (std::size_t i = 0; i < modules.size(); ++i)
      child(std::string(name) + "." + std::to_string(i), modules[i]);
  }

 private:
  std::string prefix_;
};

}  // namespace klein::nn
