#include "klein/weights/tensor_map.h"

#include <cstring>
#include <vector>

#include <doctest/doctest.h>

#include "klein/core/error.h"
#include "unit/io/support.h"

namespace klein::weights {
namespace {

using io::TensorView;

std::span<const std::byte> bytes_of(const std::vector<float>& values) {
  return std::as_bytes(std::span(values));
}

/// Every tensor under its own name.
Renaming same_names(const WeightFiles& files) {
  Renaming renaming;
  for (const auto& tensor : files.tensors) renaming.origins[tensor.name].source = tensor.name;
  return renaming;
}

WeightMap load(const std::filesystem::path& path) {
  const auto files = WeightFiles::open(path);
  return weight_map(files, same_names(files));
}

TEST_SUITE("weights/tensor_map") {
  TEST_CASE("arrays hold the numbers of the file and keep it alive") {
    const io::test::TempDir folder;
    const auto path = folder.path() / "model.safetensors";
    const std::vector<float> numbers{1, 2, 3, 4, 5, 6};
    io::write_safetensors(
        path,
        {TensorView{
            .name = "a", .dtype = io::Dtype::float32, .shape = {2, 3}, .data = bytes_of(numbers)}});
    const auto weights = load(path);
    std::filesystem::remove(path);
    const auto& a = std::get<mx::array>(weights.at("a"));
    CHECK(a.shape() == mx::Shape{2, 3});
    CHECK(mx::sum(a * mx::array({1.0f, 10.0f, 100.0f})).item<float>() == 975.0f);
  }

  TEST_CASE("rows are cut and halves swapped as an origin says") {
    const io::test::TempDir folder;
    const auto path = folder.path() / "model.safetensors";
    const std::vector<float> numbers{1, 2, 3, 4, 5, 6};
    io::write_safetensors(
        path,
        {TensorView{
            .name = "a", .dtype = io::Dtype::float32, .shape = {6, 1}, .data = bytes_of(numbers)}});
    Renaming renaming;
    renaming.origins["middle"] = {.source = "a", .part = 1, .parts = 3};
    renaming.origins["swapped"] = {.source = "a", .swap_halves = true};
    const auto weights = weight_map(WeightFiles::open(path), renaming);
    const auto equal = [&](const char* name, const mx::array& want) {
      return mx::array_equal(std::get<mx::array>(weights.at(name)), want).item<bool>();
    };
    CHECK(equal("middle", mx::array({3.0f, 4.0f}, {2, 1})));
    CHECK(equal("swapped", mx::array({4.0f, 5.0f, 6.0f, 1.0f, 2.0f, 3.0f}, {6, 1})));
  }

  TEST_CASE("a tensor that nobody wants is not read, one that is no float is refused by name") {
    const io::test::TempDir folder;
    const std::vector<std::byte> eight(8);
    const auto path = folder.path() / "model.safetensors";
    io::write_safetensors(
        path, {TensorView{.name = "count", .dtype = io::Dtype::int64, .shape = {}, .data = eight}});
    CHECK(weight_map(WeightFiles::open(path), {}).empty());
    const auto refusal = io::test::error_of([&] { load(path); });
    CHECK(refusal.kind() == ErrorKind::unsupported);
    CHECK(std::string(refusal.what()) ==
          "expected floating-point weights in " + path.string() + ", got:\n  count is I64");
  }
}

}  // namespace
}  // namespace klein::weights
