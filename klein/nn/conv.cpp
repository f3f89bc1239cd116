#include "klein/nn/conv.h"

#include "klein/nn/module.h"
#include "klein/tensor/check.h"

namespace klein::nn {

Conv2d::Conv2d(int in, int out, int kernel)
    : weight(mx::zeros({out, kernel, kernel, in})), bias(mx::zeros({out})) {}

mx::array Conv2d::operator()(const mx::array& x) const {
  expect_last_axis(x, weight.shape(3), "convolution input");
  const int same = weight.shape(1) / 2;
  return ops::conv2d(x, weight, bias, /*stride=*/1, {same, same, same, same});
}

Downsample::Downsample(int channels) : conv(channels, channels, 3) {}

mx::array Downsample::operator()(const mx::array& x) const {
  return ops::conv2d(x, conv.weight, conv.bias, /*stride=*/2,
                     {.top = 0, .bottom = 1, .left = 0, .right = 1});
}

void Downsample::visit(Visitor& visitor) {
  visitor.conv("conv", conv);
}

Upsample::Upsample(int channels) : conv(channels, channels, 3) {}

mx::array Upsample::operator()(const mx::array& x) const {
  return conv(ops::upsample_nearest_2x(x));
}

void Upsample::visit(Visitor& visitor) {
  visitor.conv("conv", conv);
}

}  // namespace klein::nn
