#include "klein/tensor/pace.h"

#include <stdexcept>
#include <vector>

#include <doctest/doctest.h>

namespace klein {
namespace {

TEST_SUITE("tensor/pace") {
  TEST_CASE("every piece is told of once, in order and with its results there") {
    std::vector<int> told;
    Pace pace(2);
    for (int i = 0; i < 5; ++i) {
      auto x = mx::array(i) + mx::array(1);
      pace.start({x}, [&told, x]() mutable { told.push_back(x.item<int>()); });
      CHECK(told.size() <= static_cast<std::size_t>(i) + 1);
    }
    pace.finish();
    CHECK(told == std::vector<int>{1, 2, 3, 4, 5});
    pace.finish();
    CHECK(told.size() == 5);
  }

  TEST_CASE("whoever is told may stop the work") {
    Pace pace;
    const auto stop = [] { throw std::runtime_error("stop"); };
    CHECK_THROWS_WITH(
        [&] {
          pace.start({mx::array(1.0f) + mx::array(1.0f)}, stop);
          pace.finish();
        }(),
        "stop");
    pace.finish();
  }
}

}  // namespace
}  // namespace klein
