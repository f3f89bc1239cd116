#pragma once

#include <string>
#include <vector>

#include "klein/nn/module.h"
#include "klein/tensor/mlx.h"
#include "klein/weights/tensor_map.h"

namespace klein::weights {

/// Puts every tensor into the place its name says, in the dtype that the module computes in.
///
/// Weights of linear layers stay bfloat16 under float32 on the CPU, where the product widens them
/// on the fly: the same numbers from half the memory. They stay packed where they are. Convolutions turn from [O, I, kH, kW] to
/// MLX's [O, kH, kW, I].
class Filler : public nn::Visitor {
 public:
  /// `where` names the files in messages.
  Filler(WeightMap weights, mx::Dtype compute_dtype, std::string where);

  void on_array(const std::string& path, mx::array& value) override;
  void on_weight(const std::string& path, ops::Weight& weight) override;
  void on_embedding(const std::string& path, nn::Embedding& layer) override;
  void on_conv(const std::string& path, nn::Conv2d& layer) override;

  /// Throws Error(shape) listing every missing, unexpected and misshapen name at once; converts
  /// what has to be converted otherwise.
  void finish();

 private:
  /// The tensor of that name in its file's dtype, or nothing after noting why not.
  std::optional<ops::Weight> take(const std::string& path, const mx::Shape& expected);
  std::optional<mx::array> take_dense(const std::string& path, const mx::Shape& expected);
  void put(mx::array& place, const mx::array& tensor);

  WeightMap weights_;
  mx::Dtype dtype_;
  std::string where_;
  std::vector<std::string> complaints_;
  std::vector<mx::array> converted_;
};

/// Fills a whole tree of modules; see Filler.
template <typename Module>
void fill(Module& module, WeightMap weights, mx::Dtype compute_dtype, std::string where) {
  Filler filler(std::move(weights), compute_dtype, std::move(where));
  module.visit(filler);
  filler.finish();
}

}  // namespace klein::weights
