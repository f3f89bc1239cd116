#include "klein/weights/fill.h"

#include <doctest/doctest.h>

#include "klein/core/error.h"
#include "klein/nn/conv.h"
#include "klein/nn/swiglu.h"

namespace klein::weights {
namespace {

TensorMap swiglu_tensors() {
  return {{"linear_in.weight", mx::ones({16, 4})}, {"linear_out.weight", mx::ones({4, 8})}};
}

TEST_SUITE("weights/fill") {
  TEST_CASE("puts every tensor into the place its name says") {
    nn::SwiGLU layer(4, 8);
    fill(layer, swiglu_tensors(), mx::float32, "test");
    CHECK(mx::sum(layer.linear_in.weight).item<float>() == 64.0f);
  }

  TEST_CASE("missing, unexpected and misshapen tensors are named in one error") {
    nn::SwiGLU layer(4, 8);
    TensorMap tensors{{"linear_in.weight", mx::zeros({3, 4}, mx::bfloat16)},
                      {"linear_mid.weight", mx::zeros({1})}};
    try {
      fill(layer, tensors, mx::float32, "folder/file.safetensors");
      FAIL("expected an error");
    } catch (const Error& e) {
      CHECK(e.kind() == ErrorKind::shape);
      CHECK(std::string(e.what()) ==
            "weights do not fit the model: folder/file.safetensors\n"
            "  linear_in.weight is [3, 4] bfloat16, expected [16, 4]\n"
            "  missing linear_out.weight\n"
            "  unexpected linear_mid.weight");
    }
  }

  TEST_CASE("convolutions turn from output, input, rows, columns to channels last") {
    struct Root {
      nn::Conv2d conv{2, 1, 3};
      void visit(nn::Visitor& v) { v.conv("conv", conv); }
    } root;
    const auto numbers = mx::reshape(mx::arange(18.0), {1, 2, 3, 3});
    fill(root, {{"conv.weight", numbers}, {"conv.bias", mx::zeros({1})}}, mx::float32, "test");
    CHECK(root.conv.weight.shape() == mx::Shape{1, 3, 3, 2});
    CHECK(mx::take(mx::flatten(root.conv.weight), 1).item<float>() == 9.0f);
  }

  TEST_CASE(
      "other weights take the dtype of the computation, linear ones stay bfloat16 on the CPU") {
    nn::SwiGLU layer(4, 8);
    auto tensors = swiglu_tensors();
    for (auto& [name, tensor] : tensors) tensor = mx::astype(tensor, mx::bfloat16);
    fill(layer, tensors, mx::float32, "test");
    CHECK(layer.linear_in.weight.dtype() ==
          (mx::default_device() == mx::Device::cpu ? mx::bfloat16 : mx::float32));
    fill(layer, swiglu_tensors(), mx::bfloat16, "test");
    CHECK(layer.linear_in.weight.dtype() == mx::bfloat16);
  }
}

}  // namespace
}  // namespace klein::weights
