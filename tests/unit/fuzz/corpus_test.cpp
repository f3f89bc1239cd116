#include <algorithm>
#include <filesystem>
#include <set>
#include <string>

#include <doctest/doctest.h>

#include "fuzz/targets.h"
#include "unit/io/support.h"

namespace klein::fuzz {
namespace {

namespace fs = std::filesystem;

TEST_SUITE("fuzz/corpus") {
  TEST_CASE("every input of the corpus is taken, or refused with an error of this project") {
    for (const auto& target : kTargets) {
      int taken = 0;
      for (const auto& entry : fs::directory_iterator(fs::path(KLEIN_TEST_CORPUS) / target.name)) {
        const auto path = entry.path().string();
        CAPTURE(path);
        CHECK_NOTHROW(taken += run(target, io::test::content(path)));
      }
      CAPTURE(target.name);
      CHECK(taken > 0);  // or the corpus leads nowhere
    }
  }

  TEST_CASE("every folder of the corpus belongs to a target") {
    std::set<std::string> folders, names;
    for (const auto& entry : fs::directory_iterator(KLEIN_TEST_CORPUS))
      folders.insert(entry.path().filename());
    for (const auto& target : kTargets) names.emplace(target.name);
    CHECK(folders == names);
  }
}

}  // namespace
}  // namespace klein::fuzz
