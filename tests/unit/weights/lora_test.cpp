#include "klein/weights/lora.h"

#include <limits>

#include <doctest/doctest.h>

#include "klein/core/error.h"
#include "klein/io/safetensors.h"
#include "klein/weights/quantize.h"
#include "unit/io/support.h"

namespace klein::weights {
namespace {

using io::test::error_of;
using io::test::message_of;
using io::test::TempDir;

struct Tensor {
  std::string name;
  std::vector<std::int64_t> shape;
  float value = 1.0f;
};

std::filesystem::path write(const TempDir& folder, const std::vector<Tensor>& tensors,
                            const std::map<std::string, std::string>& metadata = {}) {
  std::vector<std::vector<float>> data;
  std::vector<io::TensorView> views;
  for (const auto& t : tensors) {
    std::int64_t count = 1;
    for (const auto side : t.shape) count *= side;
    data.emplace_back(static_cast<std::size_t>(count), t.value);
  }
  for (std::size_t i = 0; i < tensors.size(); ++i)
    views.push_back({.name = tensors[i].name,
                     .dtype = io::Dtype::float32,
                     .shape = tensors[i].shape,
                     .data = std::as_bytes(std::span(data[i]))});
  return io::write_safetensors(folder / "x.safetensors", views, metadata, io::Overwrite::replace);
}

std::string refusal(const std::vector<Tensor>& tensors,
                    const std::map<std::string, std::string>& metadata = {}) {
  const TempDir folder;
  const auto path = write(folder, tensors, metadata);
  return message_of(folder, [&] { read_lora_file(path); });
}

double scale_of(const std::vector<Tensor>& tensors,
                const std::map<std::string, std::string>& metadata = {}) {
  const TempDir folder;
  return read_lora_file(write(folder, tensors, metadata)).layers.begin()->second.scale;
}

mx::array values(const LoraMatrix& matrix) {
  return product(matrix);
}

bool equal_to(const mx::array& a, const std::vector<float>& want) {
  return mx::array_equal(mx::flatten(a), mx::array(want.begin(), {static_cast<int>(want.size())}))
      .item<bool>();
}

const LowRank kOuter{mx::array({1.0f, 2.0f}, {1, 2}),
                     mx::array({1.0f, 10.0f, 100.0f, 1000.0f}, {4, 1})};

TEST_SUITE("weights/lora") {
  TEST_CASE("factors stand for their matrices") {
    CHECK(equal_to(values(kOuter), {1, 2, 10, 20, 100, 200, 1000, 2000}));
    CHECK(equal_to(values(HadamardProduct{kOuter, kOuter}),
                   {1, 4, 100, 400, 10000, 40000, 1000000, 4000000}));
    const KroneckerProduct kronecker{mx::array({1.0f, 10.0f}, {1, 2}),
                                     mx::array({1.0f, 2.0f, 3.0f, 4.0f}, {2, 2})};
    CHECK(equal_to(values(kronecker), {1, 2, 10, 20, 3, 4, 30, 40}));
    CHECK(size_of(kronecker) == std::pair<std::int64_t, std::int64_t>(2, 4));
    CHECK(size_of(HadamardProduct{kOuter, kOuter}) == size_of(kOuter));
    CHECK(equal_to(values(rows_of(kronecker, 1, 2)), {3, 4, 30, 40}));
    CHECK(equal_to(values(with_halves_swapped(kronecker)), {3, 4, 30, 40, 1, 2, 10, 20}));
  }

  TEST_CASE("rows of a LoRA are rows of B, beside the whole of A") {
    const auto rows = rows_of(kOuter, 1, 3);
    CHECK(equal_to(values(rows), {10, 20, 100, 200}));
    CHECK(std::get<LowRank>(rows).a.shape() == mx::Shape{1, 2});
    CHECK(equal_to(values(with_halves_swapped(kOuter)), {100, 200, 1000, 2000, 1, 2, 10, 20}));
  }

  TEST_CASE("weights keep their dtype, packed ones become bfloat16, missing ones are left out") {
    const auto ones = [](int columns, mx::Dtype dtype) { return mx::ones({2, columns}, dtype); };
    WeightMap map;
    map.emplace("half", ones(2, mx::float16));
    map.emplace("packed", quantize(ones(64, mx::float32), quant::parse_target("4")));
    const LowRank small{mx::ones({1, 2}, mx::bfloat16), mx::ones({2, 1}, mx::bfloat16)};
    const LowRank wide{mx::ones({1, 64}), mx::ones({2, 1})};
    merge(map,
          {{"half", small, 0.5}, {"packed", wide, 2.0}, {"half", small, 1.0}, {"none", small}});
    const auto& half = std::get<mx::array>(map.at("half"));
    const auto& packed = std::get<mx::array>(map.at("packed"));
    CHECK(half.dtype() == mx::float16);
    CHECK(equal_to(mx::astype(half, mx::float32), {2.5, 2.5, 2.5, 2.5}));
    CHECK(packed.dtype() == mx::bfloat16);
    CHECK(equal_to(mx::astype(packed, mx::float32), std::vector<float>(128, 3.0f)));
    CHECK(map.size() == 2);
  }

  TEST_CASE("alpha divided by the rank is the scale, wherever alpha stands") {
    const std::vector<Tensor> plain = {{"transformer.a.lora_A.weight", {4, 2}},
                                       {"transformer.a.lora_B.weight", {2, 4}}};
    auto with_alpha = plain;
    with_alpha.push_back({"transformer.a.alpha", {}, 2.0f});
    CHECK(scale_of(plain) == 1.0);
    CHECK(scale_of(with_alpha) == 0.5);
    const auto metadata = [](const char* text) {
      return std::map<std::string, std::string>{{"lora_adapter_metadata", text}};
    };
    CHECK(scale_of(plain, metadata(R"({"transformer.lora_alpha": 12})")) == 3.0);
    CHECK(scale_of(with_alpha, metadata(R"({"transformer.lora_alpha": 12})")) == 0.5);
    CHECK(scale_of(plain, metadata(R"({"text_encoder.lora_alpha": 12})")) == 1.0);
    CHECK(scale_of(plain, metadata(R"({"transformer.lora_alpha": 12,
                                       "transformer.alpha_pattern": {"^b": 1, "a": 8}})")) == 2.0);
    CHECK(scale_of(plain, metadata(R"({"transformer.lora_alpha": 12,
                                       "transformer.use_rslora": true})")) == 6.0);
  }

  TEST_CASE("the alpha of a LoKr counts where a factor is a product") {
    const std::vector<Tensor> whole = {
        {"a.lokr_w1", {2, 2}}, {"a.lokr_w2", {3, 3}}, {"a.alpha", {1}, 1.0f}};
    CHECK(scale_of(whole) == 1.0);
    CHECK(scale_of({{"a.lokr_w1", {2, 2}},
                    {"a.lokr_w2_a", {3, 4}},
                    {"a.lokr_w2_b", {4, 3}},
                    {"a.alpha", {1}, 1.0f}}) == 0.25);
    CHECK(scale_of({{"a.lokr_w1_a", {2, 2}},
                    {"a.lokr_w1_b", {2, 2}},
                    {"a.lokr_w2", {3, 3}},
                    {"a.alpha", {1}, 1.0f}}) == 0.5);
  }

  TEST_CASE("names that are no part of a LoRA are kept for the report") {
    const TempDir folder;
    const auto lora = read_lora_file(write(folder, {{"a.lora_A.weight", {1, 2}},
                                                    {"a.lora_B.weight", {2, 1}},
                                                    {"a.lora_B.bias", {2}},
                                                    {"b.diff", {2, 2}}}));
    CHECK(lora.layers.size() == 1);
    CHECK(lora.unused == std::vector<std::string>{"a.lora_B.bias", "b.diff"});
  }

  TEST_CASE("broken files are refused, everything that is wrong at once") {
    const float nan = std::numeric_limits<float>::quiet_NaN();
    const float infinity = std::numeric_limits<float>::infinity();
    CHECK(refusal({{"a.lora_A.weight", {1, 2}}, {"b.lora_up.weight", {2, 1}}, {"c.alpha", {}}}) ==
          "expected a whole LoRA, got a without lora_B; b without lora_A; c with nothing but an "
          "alpha: DIR/x.safetensors");
    CHECK(refusal({{"a.lora_A.weight", {1, 2}}, {"a.lora_B.weight", {2, 3}}}) ==
          "expected a whole LoRA, got a with lora_A [1, 2] and lora_B [2, 3]: DIR/x.safetensors");
    CHECK(
        refusal({{"a.lora_A.weight", {1, 2, 3}}, {"a.lora_B.weight", {0, 1}}, {"a.alpha", {2}}}) ==
        "expected matrices, got a.alpha F32 [2]; a.lora_A.weight F32 [1, 2, 3]; a.lora_B.weight "
        "F32 [0, 1]: DIR/x.safetensors");
    CHECK(refusal({{"a.lora_A.weight", {1, 2}, nan}, {"a.lora_B.weight", {2, 1}, infinity}}) ==
          "expected finite numbers, got a NaN or an infinity in a.lora_A; a NaN or an infinity in "
          "a.lora_B: DIR/x.safetensors");
    CHECK(refusal({{"a.lora_A.weight", {1, 2}}, {"a.lora_down.weight", {1, 2}}}) ==
          "expected a whole LoRA, got a with two of lora_A; a without lora_B: DIR/x.safetensors");
    CHECK(refusal(
              {{"a.lora_A.weight", {1, 2}}, {"a.lora_B.weight", {2, 1}}, {"a.lokr_w1", {1, 1}}}) ==
          "expected a whole LoRA, got a with tensors of two kinds: DIR/x.safetensors");
    CHECK(refusal(
              {{"a.lokr_w1", {1, 1}}, {"a.lokr_w2_a", {65536, 1}}, {"a.lokr_w2_b", {1, 65536}}}) ==
          "expected a whole LoRA, got a with a factor [65536, 65536]: DIR/x.safetensors");
    CHECK(refusal({{"a.hada_w1_a", {2, 1}},
                   {"a.hada_w1_b", {1, 2}},
                   {"a.hada_w2_a", {3, 1}},
                   {"a.hada_w2_b", {1, 2}}}) ==
          "expected a whole LoRA, got a with factors of different sizes: DIR/x.safetensors");
  }

  TEST_CASE("other kinds of adapters are refused by their names") {
    CHECK(refusal({{"a.dora_scale", {1, 2}}}) ==
          "expected a LoRA, LoKr or LoHa, got a DoRA, which has a.dora_scale: DIR/x.safetensors");
    CHECK(refusal({{"a.lora_magnitude_vector.default.weight", {2}}}) ==
          "expected a LoRA, LoKr or LoHa, got a DoRA, which has "
          "a.lora_magnitude_vector.default.weight: DIR/x.safetensors");
    CHECK(refusal({{"a.lokr_t2", {1, 1, 3, 3}}}) ==
          "expected a LoRA, LoKr or LoHa, got a Tucker decomposition for convolutions, which has "
          "a.lokr_t2: DIR/x.safetensors");
    CHECK(refusal({{"a.lora_A.weight", {1, 2}}},
                  {{"lora_adapter_metadata", R"({"transformer.use_dora": true})"}}) ==
          "expected a LoRA, LoKr or LoHa, got a DoRA (use_dora): lora_adapter_metadata of "
          "DIR/x.safetensors");
    CHECK(refusal({{"a.lora_A.weight", {1, 2}}},
                  {{"lora_adapter_metadata", R"({"transformer.alpha_pattern": {"a.*": 1}})"}}) ==
          "expected names of layers in alpha_pattern, got the pattern \"a.*\": "
          "lora_adapter_metadata of DIR/x.safetensors");
    const TempDir folder;
    folder.file("adapter_config.json", R"({"peft_type": "LOKR"})");
    const auto path = write(folder, {{"a.lora_A.weight", {1, 2}}});
    CHECK(message_of(folder, [&] { read_lora_file(path); }) ==
          "DIR/adapter_config.json: expected `peft_type` to be LORA, got \"LOKR\"");
  }
}

}  // namespace
}  // namespace klein::weights
