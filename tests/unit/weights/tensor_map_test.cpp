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

TEST_SUITE("weights/tensor_map") {
  TEST_CASE("arrays hold the numbers of the file and keep it alive") {
    const io::test::TempDir folder;
    const auto path = folder.path() / "model.safetensors";
    const std::vector<float> numbers{1, 2, 3, 4, 5, 6};
    io::write_safetensors(
        path,
        {TensorView{
            .name = "a", .dtype = io::Dtype::float32, .shape = {2, 3}, .data = bytes_of(numbers)}});
    const auto tensors = [&] {
      return tensor_map(
          io::ShardedWeights::open(folder.path(), "model", io::Access::copy_on_write));
    }();
    std::filesystem::remove(path);
    const auto& a = tensors.at("a");
    CHECK(a.shape() == mx::Shape{2, 3});
    CHECK(mx::sum(a * mx::array({1.0f, 10.0f, 100.0f})).item<float>() == 975.0f);
  }

  TEST_CASE("a tensor that is left out is not read, one that is no float is refused by name") {
    const io::test::TempDir folder;
    const std::vector<std::byte> eight(8);
    io::write_safetensors(
        folder.path() / "model.safetensors",
        {TensorView{.name = "count", .dtype = io::Dtype::int64, .shape = {}, .data = eight}});
    const auto files = io::ShardedWeights::open(folder.path(), "model", io::Access::copy_on_write);
    CHECK(tensor_map(files, [](const std::string& name) { return name == "count"; }).empty());
    try {
      tensor_map(files);
      FAIL("expected an error");
    } catch (const Error& e) {
      CHECK(e.kind() == ErrorKind::unsupported);
      CHECK(std::string(e.what()).find("\n  count is I64") != std::string::npos);
    }
  }
}

}  // namespace
}  // namespace klein::weights
