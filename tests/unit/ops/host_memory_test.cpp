#include "klein/ops/host_memory.h"

#include <cstdint>
#include <cstring>
#include <vector>

#include "unit/ops/support.h"

namespace klein::ops::test {
namespace {

TEST_SUITE("ops/host_memory") {
  TEST_CASE("numbers become an array, and its bytes the numbers again") {
    const With with(Backend::native);
    const std::vector<float> numbers{1.5f, -2.0f, 0.0f, 3.0f, 4.0f, 5.0f};
    const auto a = array_of(numbers, {2, 3});
    CHECK(a.dtype() == mx::float32);
    CHECK(a.shape() == mx::Shape{2, 3});
    CHECK(values(a) == numbers);
    const auto bytes = bytes_of(a);
    REQUIRE(bytes.size() == sizeof(float) * numbers.size());
    CHECK(std::memcmp(bytes.data(), numbers.data(), bytes.size()) == 0);
  }

  TEST_CASE("bytes stand in row order, whatever the array's strides are") {
    const With with(Backend::native);
    const auto a = array_of(std::vector<std::uint8_t>{1, 2, 3, 4, 5, 6}, {2, 3});
    CHECK(bytes_of(mx::transpose(a)) == std::vector<std::uint8_t>{1, 4, 2, 5, 3, 6});
    CHECK(bytes_of(mx::slice(a, {0, 1}, {2, 2})) == std::vector<std::uint8_t>{2, 5});
  }

  TEST_CASE("nothing is nothing") {
    const With with(Backend::native);
    CHECK(array_of(std::vector<int>{}, {0, 4}).shape() == mx::Shape{0, 4});
    CHECK(bytes_of(mx::zeros({0, 4})).empty());
  }
}

}  // namespace
}  // namespace klein::ops::test
