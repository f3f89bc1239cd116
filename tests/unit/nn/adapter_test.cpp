#include "klein/nn/adapter.h"

#include <doctest/doctest.h>

#include "klein/nn/linear.h"
#include "klein/tensor/random.h"
#include "klein/weights/adapters.h"
#include "klein/weights/lora.h"
#include "klein/weights/quantize.h"
#include "support/tensors.h"

namespace klein::nn {
namespace {

using test::relative_error;

mx::array noise(const mx::Shape& shape, std::uint64_t seed, mx::Dtype dtype = mx::float32) {
  const int rows = (shape.front() + 15) / 16 * 16;  // torch's generator wants 16 numbers
  auto larger = shape;
  larger.front() = rows;
  return mx::astype(mx::slice(torch_randn(larger, seed), mx::Shape(shape.size(), 0), shape), dtype);
}

LowRank low_rank(int out, int rank, int in, std::uint64_t seed) {
  return {noise({rank, in}, seed), noise({out, rank}, seed + 1)};
}

/// Matrices [12, 64] of each kind.
std::vector<AdapterMatrix> matrices() {
  return {low_rank(12, 3, 64, 10),
          HadamardProduct{low_rank(12, 2, 64, 20), low_rank(12, 3, 64, 30)},
          KroneckerProduct{noise({3, 4}, 40), noise({4, 16}, 41)},
          KroneckerProduct{noise({4, 8}, 42), noise({5, 8}, 43), 3, 5}, noise({12, 64}, 50)};
}

mx::array dense(const Adapter& adapter) {
  return mx::array(adapter.scale) * weights::product(adapter.matrix);
}

TEST_SUITE("nn/adapter") {
  TEST_CASE("every kind gives what its matrix gives") {
    for (const auto& matrix : matrices())
      for (const mx::Shape& shape : {mx::Shape{2, 5, 64}, mx::Shape{1, 64}, mx::Shape{40, 64}}) {
        const auto x = noise(shape, 1);
        const auto want = mx::matmul(x, mx::transpose(weights::product(matrix)));
        test::check_close(apply(matrix, x), want, test::kFloat32, "float32");
        const auto narrow = mx::astype(x, mx::bfloat16);
        const auto got = apply(matrix, narrow);
        CHECK(got.dtype() == mx::bfloat16);
        test::check_close(got, want, 2e-2f, "bfloat16");
      }
  }

  TEST_CASE("rows and swapped halves stay factors and are those of the matrix") {
    const auto x = noise({7, 64}, 1);
    for (const auto& matrix : matrices()) {
      const auto whole = weights::product(matrix);
      for (const auto& [begin, end] : {std::pair{0, 12}, {0, 5}, {4, 8}, {5, 7}, {7, 12}}) {
        const auto part = weights::rows_of(matrix, begin, end);
        const auto want = mx::slice(whole, {begin, 0}, {end, 64});
        CHECK(part.index() == matrix.index());
        CHECK(weights::size_of(part) == std::pair<std::int64_t, std::int64_t>(end - begin, 64));
        CHECK(relative_error(weights::product(part), want) < test::kFloat32);
        CHECK(relative_error(apply(part, x), mx::matmul(x, mx::transpose(want))) < test::kFloat32);
      }
      const auto swapped = weights::with_halves_swapped(matrix);
      const auto want = mx::concatenate(
          {mx::slice(whole, {6, 0}, {12, 64}), mx::slice(whole, {0, 0}, {6, 64})}, 0);
      CHECK(relative_error(weights::product(swapped), want) < test::kFloat32);
    }
    const auto even =
        weights::with_halves_swapped(KroneckerProduct{noise({4, 8}, 2), noise({3, 8}, 3)});
    CHECK(std::holds_alternative<KroneckerProduct>(even));
  }

  TEST_CASE("adapters of a layer add up, on dense and on packed weights") {
    Linear layer(64, 12, /*with_bias=*/true);
    layer.bias = noise({12}, 2);
    const auto x = noise({2, 5, 64}, 1), dense_weight = noise({12, 64}, 3);
    const auto packed = weights::quantize(dense_weight, quant::parse_target("4"));
    std::vector<Adapter> adapters;
    float scale = 0.5f;
    for (const auto& matrix : matrices()) adapters.push_back({matrix, scale -= 0.3f});
    for (const bool is_packed : {false, true}) {
      layer.weight = is_packed ? ops::Weight(packed) : ops::Weight(dense_weight);
      auto sum = is_packed ? ops::unpack(packed, mx::float32) : dense_weight;
      layer.adapters.clear();
      const auto plain = layer(x);
      for (const auto& adapter : adapters) {
        sum = sum + dense(adapter);
        layer.adapters.push_back(adapter);
      }
      test::check_close(layer(x), mx::addmm(*layer.bias, x, mx::transpose(sum)), test::kFloat32,
                        is_packed ? "packed" : "dense");
      CHECK(std::holds_alternative<ops::PackedMatrix>(layer.weight) == is_packed);
      layer.adapters.clear();
      CHECK(mx::array_equal(layer(x), plain).item<bool>());
    }
  }

  TEST_CASE("in bfloat16 a LoRA rounds where PEFT does") {
    // x = 1, W = 128, a = 1, b = 1.0078125, scale 3: 3.0234375 rounds to 3.03125, 131.03 to 131.
    Linear layer(1, 1);
    layer.weight = mx::full({1, 1}, 128.0f, mx::bfloat16);
    layer.adapters = {
        {LowRank{mx::ones({1, 1}, mx::bfloat16), mx::full({1, 1}, 1.0078125f, mx::bfloat16)},
         3.0f}};
    const auto y = layer(mx::ones({1, 1}, mx::bfloat16));
    CHECK(y.dtype() == mx::bfloat16);
    CHECK(mx::astype(y, mx::float32).item<float>() == 131.0f);
  }

  TEST_CASE("layers get adapters by the names of their weights, and lose them again") {
    struct Pair {
      Linear first{64, 12}, second{64, 12};
      void visit(Visitor& visitor) {
        visitor.linear("first", first);
        visitor.linear("second.0", second);
      }
    } pair;
    weights::AdapterMap map;
    map["block.1.second.0.weight"] = {{low_rank(12, 1, 64, 1), 1.0f},
                                      {low_rank(12, 1, 64, 2), 2.0f}};
    weights::set_adapters(pair, map, "block.1.");
    CHECK(pair.first.adapters.empty());
    REQUIRE(pair.second.adapters.size() == 2);
    CHECK(pair.second.adapters[1].scale == 2.0f);
    weights::set_adapters(pair, map, "block.2.");
    CHECK(pair.second.adapters.empty());
  }
}

}  // namespace
}  // namespace klein::nn
