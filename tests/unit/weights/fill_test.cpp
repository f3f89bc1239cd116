#include "klein/weights/fill.h"

#include <doctest/doctest.h>

#include "klein/core/error.h"
#include "klein/nn/conv.h"
#include "klein/nn/swiglu.h"
#include "klein/weights/quantize.h"

namespace klein::weights {
namespace {

WeightMap swiglu_tensors() {
  return {{"linear_in.weight", mx::ones({16, 4})}, {"linear_out.weight", mx::ones({4, 8})}};
}

const mx::array& dense(const nn::Linear& layer) {
  return std::get<mx::array>(layer.weight);
}

TEST_SUITE("weights/fill") {
  TEST_CASE("puts every tensor into the place its name says") {
    nn::SwiGLU layer(4, 8);
    fill(layer, swiglu_tensors(), mx::float32, "test");
    CHECK(mx::sum(dense(layer.linear_in)).item<float>() == 64.0f);
  }

  TEST_CASE("missing, unexpected and misshapen tensors are named in one error") {
    nn::SwiGLU layer(4, 8);
    WeightMap tensors{{"linear_in.weight", mx::zeros({3, 4}, mx::bfloat16)},
                      {"linear_mid.weight", mx::zeros({1})}};
    try {
      fill(layer, tensors, mx::float32, "folder/file.safetensors");
      FAIL("expected an error");
    } catch (const Error& e) {
      CHECK(e.kind() == ErrorKind::shape);
      CHECK(std::string(e.what()) ==
            "weights do not fit the model: folder/file.safetensors\n"
            "  linear_in.weight is [3, 4], expected [16, 4]\n"
            "  missing linear_out.weight\n"
            "  unexpected linear_mid.weight");
    }
  }

  TEST_CASE("a packed matrix stays packed") {
    nn::SwiGLU layer(64, 8);
    const auto packed = quantize(mx::ones({16, 64}), {.format = quant::Format::affine, .bits = 4});
    fill(layer, {{"linear_in.weight", packed}, {"linear_out.weight", mx::ones({64, 8})}},
         mx::float32, "test");
    REQUIRE(std::holds_alternative<ops::PackedMatrix>(layer.linear_in.weight));
    const auto y = layer.linear_in(mx::ones({1, 64}));
    CHECK(mx::array_equal(y, mx::full({1, 16}, 64.0f)).item<bool>());
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
    for (auto& [name, tensor] : tensors)
      tensor = mx::astype(std::get<mx::array>(tensor), mx::bfloat16);
    fill(layer, tensors, mx::float32, "test");
    CHECK(dense(layer.linear_in).dtype() ==
          (mx::default_device() == mx::Device::cpu ? mx::bfloat16 : mx::float32));
    fill(layer, swiglu_tensors(), mx::bfloat16, "test");
    CHECK(dense(layer.linear_in).dtype() == mx::bfloat16);
  }
}

}  // namespace
}  // namespace klein::weights
