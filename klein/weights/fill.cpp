#include "klein/weights/fill.h"

#include <algorithm>

#include <fmt/format.h>
#include <fmt/ranges.h>

#include "klein/core/error.h"
#include "klein/nn/conv.h"
#include "klein/nn/linear.h"
#include "klein/tensor/check.h"

namespace klein::weights {

Filler::Filler(WeightMap weights, mx::Dtype compute_dtype, std::string where)
    : weights_(std::move(weights)), dtype_(compute_dtype), where_(std::move(where)) {}

std::optional<ops::Weight> Filler::take(const std::string& path, const mx::Shape& expected) {
  const auto found = weights_.find(path);
  if (found == weights_.end()) {
    complaints_.push_back("missing " + path);
    return std::nullopt;
  }
  const auto weight = std::move(found->second);
  weights_.erase(found);
  if (ops::shape_of(weight) != expected) {
    complaints_.push_back(
        fmt::format("{} is {}, expected {}", path, ops::describe(weight), klein::describe(expected)));
    return std::nullopt;
  }
  return weight;
}

std::optional<mx::array> Filler::take_dense(const std::string& path, const mx::Shape& expected) {
  const auto weight = take(path, expected);
  if (!weight) return std::nullopt;
  if (const auto* dense = std::get_if<mx::array>(&*weight)) return *dense;
  return ops::unpack(std::get<ops::PackedMatrix>(*weight), dtype_);
}

void Filler::put(mx::array& place, const mx::array& tensor) {
  place = mx::astype(tensor, dtype_);
  converted_.push_back(place);
}

void Filler::on_array(const std::string& path, mx::array& value) {
  if (const auto tensor = take_dense(path, value.shape())) put(value, *tensor);
}

void Filler::on_weight(const std::string& path, ops::Weight& place) {
  auto weight = take(path, ops::shape_of(place));
  if (!weight) return;
  place = std::move(*weight);
  auto* dense = std::get_if<mx::array>(&place);
  if (dense == nullptr) {
    const auto& packed = std::get<ops::PackedMatrix>(place);
    converted_.push_back(packed.codes);
    for (const auto* part : {&packed.scales, &packed.biases, &packed.column_scales})
      if (*part) converted_.push_back(**part);
    return;
  }
  const bool widened_on_the_fly =
      mx::default_device() == mx::Device::cpu && dense->dtype() == mx::bfloat16;
  if (widened_on_the_fly)
    converted_.push_back(*dense);
  else
    put(*dense, *dense);
}

void Filler::on_embedding(const std::string& path, nn::Embedding& layer) {
  on_weight(path + ".weight", layer.weight);
  layer.dtype = dtype_;
}

void Filler::on_conv(const std::string& path, nn::Conv2d& layer) {
  const auto& s = layer.weight.shape();
  if (const auto weight = take_dense(path + ".weight", {s[0], s[3], s[1], s[2]})) {
    layer.weight = mx::contiguous(mx::astype(mx::transpose(*weight, {0, 2, 3, 1}), dtype_));
    converted_.push_back(layer.weight);
  }
  on_array(path + ".bias", layer.bias);
}

void Filler::finish() {
  for (const auto& [name, weight] : weights_) complaints_.push_back("unexpected " + name);
  if (!complaints_.empty()) {
    std::ranges::sort(complaints_);
    throw Error(ErrorKind::shape,
                fmt::format("weights do not fit the model: {}\n  {}", where_,
                            fmt::join(complaints_, "\n  ")),
                "The files belong to another model than its config.json, or are incomplete.");
  }
  mx::eval(converted_);  // with what weight_map only promised: rows, scales
  converted_.clear();
}

}  // namespace klein::weights
