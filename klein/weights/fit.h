#pragma once

#include <string>
#include <vector>

#include "klein/nn/module.h"
#include "klein/weights/renaming.h"

namespace klein::weights {

/// Compares the names and shapes that a tree of modules expects with those that are there.
class FitChecker : public nn::Visitor {
 public:
  /// `tensors` in the order of axes of checkpoints: convolutions are [O, I, kH, kW].
  explicit FitChecker(Shapes tensors) : tensors_(std::move(tensors)) {}

  void on_array(const std::string& path, mx::array& value) override;
  void on_weight(const std::string& path, ops::Weight& weight) override;
  void on_conv(const std::string& path, nn::Conv2d& layer) override;

  /// Throws Error(shape) listing every missing, unexpected and misshapen name at once; `where`
  /// names the files.
  void finish(const std::string& where);

 private:
  void expect(const std::string& path, const mx::Shape& shape);

  Shapes tensors_;
  std::vector<std::string> complaints_;
};

/// Checks a whole tree of modules; see FitChecker.
template <typename Module>
void expect_fit(Module& module, const Shapes& tensors, const std::string& where) {
  FitChecker checker(tensors);
  module.visit(checker);
  checker.finish(where);
}

}  // namespace klein::weights
