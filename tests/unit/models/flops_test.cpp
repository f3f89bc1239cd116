#include "klein/models/flux2/flops.h"

#include <doctest/doctest.h>

namespace klein::flux2 {
namespace {

TEST_SUITE("models/flops") {
  TEST_CASE("a step is its products and an attention in each block") {
    TransformerConfig config;
    config.in_channels = 4;
    config.num_layers = 1;
    config.num_single_layers = 2;
    config.num_attention_heads = 1;
    config.attention_head_dim = 2;
    config.mlp_ratio = 3.0f;
    config.joint_attention_dim = 5;
    const auto products = step_products(config, 3, 7);
    CHECK(products.outside == std::vector<Product>{{7, 4, 2}, {3, 5, 2}, {7, 2, 4}});
    CHECK(products.double_block == std::vector<Product>{{7, 2, 6},
                                                        {7, 2, 2},
                                                        {7, 2, 12},
                                                        {7, 6, 2},
                                                        {3, 2, 6},
                                                        {3, 2, 2},
                                                        {3, 2, 12},
                                                        {3, 6, 2}});
    CHECK(products.single_block == std::vector<Product>{{10, 2, 18}, {10, 8, 2}});
    // 2 * (56 + 30 + 56); each block 2 * 10 * 2 * (6 + 2 + 12 + 6) and 4 * 10 * 10 * 2.
    CHECK(step_flops(config, 3, 7) == 284.0 + 3 * (1040.0 + 800.0));
  }
}

}  // namespace
}  // namespace klein::flux2
