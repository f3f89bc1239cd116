#include "klein/weights/fit.h"

#include <algorithm>

#include <fmt/format.h>
#include <fmt/ranges.h>

#include "klein/core/error.h"
#include "klein/nn/conv.h"

namespace klein::weights {

void FitChecker::expect(const std::string& path, const mx::Shape& shape) {
  const Shape expected(shape.begin(), shape.end());
  const auto found = tensors_.find(path);
  if (found == tensors_.end()) {
    complaints_.push_back("missing " + path);
    return;
  }
  if (found->second != expected)
    complaints_.push_back(fmt::format("{} is [{}], expected [{}]", path,
                                      fmt::join(found->second, ", "), fmt::join(expected, ", ")));
  tensors_.erase(found);
}

void FitChecker::on_array(const std::string& path, mx::array& value) {
  expect(path, value.shape());
}

void FitChecker::on_weight(const std::string& path, ops::Weight& weight) {
  expect(path, ops::shape_of(weight));
}

void FitChecker::on_conv(const std::string& path, nn::Conv2d& layer) {
  const auto& s = layer.weight.shape();
  expect(path + ".weight", {s[0], s[3], s[1], s[2]});
  expect(path + ".bias", layer.bias.shape());
}

void FitChecker::finish(const std::string& where) {
  for (const auto& [name, shape] : tensors_) complaints_.push_back("unexpected " + name);
  if (complaints_.empty()) return;
  std::ranges::sort(complaints_);
  throw Error(
      ErrorKind::shape,
      fmt::format("weights do not fit the model: {}\n  {}", where, fmt::join(complaints_, "\n  ")),
      "The files belong to another model than its config.json, or are incomplete.");
}

}  // namespace klein::weights
