#include "klein/ops/cuda/saved_algorithms.h"

#include <filesystem>
#include <fstream>
#include <string>

#include <doctest/doctest.h>
#include <unistd.h>

using namespace klein::ops::cuda;
namespace fs = std::filesystem;

namespace {

/// A folder of its own, gone at the end.
struct Folder {
  fs::path path = fs::temp_directory_path() / ("klein-algorithms-" + std::to_string(::getpid()));
  Folder() { fs::remove_all(path); }
  ~Folder() { fs::remove_all(path); }
};

const ProductShape kShape{.m = 4608, .n = 9216, .k = 3072};

}  // namespace

TEST_SUITE("gpu/saved_algorithms") {
  TEST_CASE("what one process finds out the next one knows") {
    const Folder folder;
    const auto file = folder.path / "deep" / "products.txt";
    Algorithm algorithm{.data = {1, 0xFFFFFFFFFFFFFFFFu, 3}, .workspace = 4096};
    SavedAlgorithms first(file);
    CHECK_FALSE(first.find(kShape));
    first.add(kShape, algorithm);
    auto other = kShape;
    other.fp8 = true;
    first.add(other, {.workspace = 7});
    const SavedAlgorithms second(file);
    REQUIRE(second.find(kShape));
    CHECK(second.find(kShape)->data == algorithm.data);
    CHECK(second.find(kShape)->workspace == 4096);
    CHECK(second.find(other)->workspace == 7);
    CHECK(std::distance(fs::directory_iterator(file.parent_path()), {}) == 1);
  }

  TEST_CASE("lines that are no entry count as not there") {
    const Folder folder;
    fs::create_directories(folder.path);
    const auto file = folder.path / "products.txt";
    std::ofstream(file) << "\nnonsense\n4608 9216 3072 0 0 0 1 2 3 4 5 6 7\n"
                        << "4608 9216 3072 0 0 0 1 2 3 4 5 6 7 8 9\n1 2 3 0 0 5 1 2 3 4 5 6 7 8\n";
    const SavedAlgorithms known(file);
    CHECK_FALSE(known.find(kShape));
    CHECK(known.find({.m = 1, .n = 2, .k = 3})->workspace == 5);
  }

  TEST_CASE("a folder that cannot be written is no error") {
    SavedAlgorithms known("/proc/klein/products.txt");
    known.add(kShape, {.workspace = 1});
    CHECK(known.find(kShape)->workspace == 1);
    CHECK_FALSE(SavedAlgorithms(fs::path()).find(kShape));
  }
}
