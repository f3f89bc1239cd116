#include "klein/weights/fill.h"

#include "klein/nn/conv.h"
#include "klein/nn/linear.h"

namespace klein::weights {

ops::Weight Filler::take(const std::string& path) {
  return std::move(weights_.extract(path).mapped());
}

mx::array Filler::take_dense(const std::string& path) {
  const auto weight = take(path);
  if (const auto* dense = std::get_if<mx::array>(&weight)) return *dense;
  return ops::unpack(std::get<ops::PackedMatrix>(weight), dtype_);
}

void Filler::put(mx::array& place, const mx::array& tensor) {
  place = mx::astype(tensor, dtype_);
  promised_.push_back(place);
}

void Filler::on_array(const std::string& path, mx::array& value) {
  put(value, take_dense(path));
}

void Filler::on_weight(const std::string& path, ops::Weight& place) {
  place = take(path);
  if (auto* dense = std::get_if<mx::array>(&place)) {
    const bool widened_on_the_fly =
        mx::default_device() == mx::Device::cpu && dense->dtype() == mx::bfloat16;
    if (!widened_on_the_fly) *dense = mx::astype(*dense, dtype_);
    promised_.push_back(*dense);
    return;
  }
  const auto& packed = std::get<ops::PackedMatrix>(place);
  promised_.push_back(packed.codes);
  for (const auto* part : {&packed.scales, &packed.biases, &packed.column_scales})
    if (*part) promised_.push_back(**part);
}

void Filler::on_embedding(const std::string& path, nn::Embedding& layer) {
  on_weight(path + ".weight", layer.weight);
  layer.dtype = dtype_;
}

void Filler::on_conv(const std::string& path, nn::Conv2d& layer) {
  put(layer.weight, mx::contiguous(mx::transpose(take_dense(path + ".weight"), {0, 2, 3, 1})));
  put(layer.bias, take_dense(path + ".bias"));
}

void Filler::finish() {
  // One after the other: what is needed on the way is never in memory for many at once.
  for (auto& array : promised_) mx::eval(array);
  promised_.clear();
}

}  // namespace klein::weights
