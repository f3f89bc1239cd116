#pragma once

#include <string>
#include <vector>

#include "klein/nn/module.h"
#include "klein/tensor/mlx.h"
#include "klein/weights/fit.h"
#include "klein/weights/tensor_map.h"

namespace klein::weights {

/// Puts every tensor into the place its name says, in the dtype that the module computes in.
///
/// Weights of linear layers stay bfloat16 under float32 on the CPU, where the product widens them
/// on the fly: the same numbers from half the memory. They stay packed where they are. Convolutions
/// turn from [O, I, kH, kW] to MLX's [O, kH, kW, I].
class Filler : public nn::Visitor {
 public:
  /// `weights` has every name that the modules have, in the right shapes; see fill.
  Filler(WeightMap weights, mx::Dtype compute_dtype)
      : weights_(std::move(weights)), dtype_(compute_dtype) {}

  void on_array(const std::string& path, mx::array& value) override;
  void on_weight(const std::string& path, ops::Weight& weight) override;
  void on_embedding(const std::string& path, nn::Embedding& layer) override;
  void on_conv(const std::string& path, nn::Conv2d& layer) override;

  /// Computes what had to be converted, and what the map only promised.
  void finish();

 private:
  ops::Weight take(const std::string& path);
  mx::array take_dense(const std::string& path);
  void put(mx::array& place, const mx::array& tensor);

  WeightMap weights_;
  mx::Dtype dtype_;
  std::vector<mx::array> promised_;
};

/// Fills a whole tree of modules; see Filler.
///
/// Errors   Error(shape) listing every missing, unexpected and misshapen name at once; `where`
///          names the files
template <typename Module>
void fill(Module& module, WeightMap weights, mx::Dtype compute_dtype, const std::string& where) {
  expect_fit(module, shapes_of(weights), where);
  Filler filler(std::move(weights), compute_dtype);
  module.visit(filler);
  filler.finish();
}

}  // namespace klein::weights
