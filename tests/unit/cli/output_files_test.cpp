#include "klein/cli/output_files.h"

#include <doctest/doctest.h>

namespace klein::cli {
namespace {

TEST_SUITE("cli/output_files") {
  TEST_CASE("a seed stands where {seed} does, else before the extension of one of several") {
    CHECK(name_for_seed("image.png", 7, false) == "image.png");
    CHECK(name_for_seed("image.png", 7, true) == "image_seed_7.png");
    CHECK(name_for_seed("a.b/image.x.png", 7, true) == "a.b/image.x_seed_7.png");
    CHECK(name_for_seed("{seed}.png", 7, true) == "7.png");
    CHECK(name_for_seed("{seed}/{seed}{seed}.png", 12, false) == "12/1212.png");
    CHECK(name_for_seed("{size}.png", 7, false) == "{size}.png");
  }

  TEST_CASE("pictures of one batch are counted from 1") {
    CHECK(name_in_batch("a/b.png", 0, 1) == "a/b.png");
    CHECK(name_in_batch("a/b.png", 0, 2) == "a/b_1.png");
    CHECK(name_in_batch("a/b.png", 1, 2) == "a/b_2.png");
  }
}

}  // namespace
}  // namespace klein::cli
