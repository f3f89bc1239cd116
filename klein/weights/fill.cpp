#include "klein/weights/fill.h"

#include <algorithm>

#include <fmt/format.h>
#include <fmt/ranges.h>

#include "klein/core/error.h"
#include "klein/nn/conv.h"
#include "klein/nn/linear.h"
#include "klein/tensor/check.h"

namespace klein::weights {

Filler::Filler(TensorMap tensors, mx::Dtype compute_dtype, std::string where)
    : tensors_(std::move(tensors)), dtype_(compute_dtype), where_(std::move(where)) {}

std::optional<mx::array> Filler::take(const std::string& path, const mx::Shape& expected) {
  const auto found = tensors_.find(path);
  if (found == tensors_.end()) {
    complaints_.push_back("missing " + path);
    return std::nullopt;
  }
  const auto tensor = found->second;
  tensors_.erase(found);
  if (tensor.shape() != expected) {
    complaints_.push_back(
        fmt::format("{} is {}, expected {}", path, describe(tensor), describe(expected)));
    return std::nullopt;
  }
  return tensor;
}

void Filler::put(mx::array& place, const mx::array& tensor) {
  if (tensor.dtype() == dtype_) {
    place = tensor;
    return;
  }
  place = mx::astype(tensor, dtype_);
  converted_.push_back(place);
}

void Filler::on_array(const std::string& path, mx::array& value) {
  if (const auto tensor = take(path, value.shape())) put(value, *tensor);
}

void Filler::on_linear(const std::string& path, nn::Linear& layer) {
  if (const auto weight = take(path + ".weight", layer.weight.shape())) {
    const bool widened_on_the_fly =
        mx::default_device() == mx::Device::cpu && weight->dtype() == mx::bfloat16;
    if (widened_on_the_fly)
      layer.weight = *weight;
    else
      put(layer.weight, *weight);
  }
  if (layer.bias) on_array(path + ".bias", *layer.bias);
}

void Filler::on_conv(const std::string& path, nn::Conv2d& layer) {
  const auto& s = layer.weight.shape();
  if (const auto weight = take(path + ".weight", {s[0], s[3], s[1], s[2]})) {
    layer.weight = mx::contiguous(mx::astype(mx::transpose(*weight, {0, 2, 3, 1}), dtype_));
    converted_.push_back(layer.weight);
  }
  on_array(path + ".bias", layer.bias);
}

void Filler::finish() {
  for (const auto& [name, tensor] : tensors_) complaints_.push_back("unexpected " + name);
  if (!complaints_.empty()) {
    std::ranges::sort(complaints_);
    throw Error(ErrorKind::shape,
                fmt::format("weights do not fit the model: {}\n  {}", where_,
                            fmt::join(complaints_, "\n  ")),
                "The files belong to another model than its config.json, or are incomplete.");
  }
  mx::eval(converted_);
  converted_.clear();
}

}  // namespace klein::weights
