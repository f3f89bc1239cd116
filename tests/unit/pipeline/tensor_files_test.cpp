#include "klein/pipeline/tensor_files.h"

#include <filesystem>
#include <limits>
#include <vector>

#include <doctest/doctest.h>

#include "klein/core/error.h"
#include "unit/io/support.h"

namespace klein {
namespace {

TEST_SUITE("pipeline/tensor_files") {
  TEST_CASE("a tensor comes back as it was written, in either precision") {
    const io::test::TempDir folder;
    for (const auto dtype : {mx::float32, mx::bfloat16}) {
      const auto path = folder.path() / "t.safetensors";
      const auto value = mx::astype(mx::transpose(mx::reshape(mx::arange(6.0), {2, 3})), dtype);
      write_tensor(path, "latents", value, /*overwrite=*/true);
      const auto read = read_tensor(path, "latents");
      CHECK(read.dtype() == dtype);
      CHECK(mx::array_equal(read, value).item<bool>());
    }
  }

  TEST_CASE("a wrong name, values that are not finite and an existing file are errors") {
    const io::test::TempDir folder;
    const auto path = folder.path() / "t.safetensors";
    write_tensor(path, "noise", mx::array({std::numeric_limits<float>::quiet_NaN()}), false);
    CHECK_THROWS_WITH_AS(read_tensor(path, "latents"),
                         ("expected a tensor `latents`, found none: " + path.string()).c_str(),
                         Error);
    CHECK_THROWS_WITH_AS(
        read_tensor(path, "noise"),
        ("expected finite values in `noise`, got NaN or infinity: " + path.string()).c_str(),
        Error);
    CHECK_THROWS_AS(write_tensor(path, "noise", mx::zeros({1}), false), Error);
  }

  TEST_CASE("rows go to files of their own, and there has to be one for each") {
    const io::test::TempDir folder;
    const auto rows = mx::reshape(mx::arange(6, mx::float32), {2, 3});
    write_rows({folder / "a.safetensors", folder / "b.safetensors"}, "t", rows, false);
    CHECK(mx::array_equal(read_tensor(folder / "b.safetensors", "t"),
                          mx::array({3.0f, 4.0f, 5.0f}, {1, 3}))
              .item<bool>());
    const auto too_many =
        std::vector{folder / "c.safetensors", folder / "d.safetensors", folder / "e.safetensors"};
    CHECK_THROWS_WITH_AS(write_rows(too_many, "t", rows, false),
                         "expected t for 3 files, got [2, 3] float32", Error);
    CHECK_FALSE(std::filesystem::exists(folder / "c.safetensors"));
  }
}

}  // namespace
}  // namespace klein
