#include "klein/models/flux2/new_folder.h"

#include <fstream>

#include <doctest/doctest.h>

#include "klein/core/error.h"
#include "unit/io/support.h"

namespace klein::flux2 {
namespace {

namespace fs = std::filesystem;
using io::test::error_of;
using io::test::TempDir;

void touch(const fs::path& path) {
  std::ofstream(path) << "x";
}

TEST_SUITE("models/new_folder") {
  TEST_CASE("a folder has its name once it is committed, and the permissions of any other") {
    const TempDir dir;
    {
      NewFolder folder(dir / "a/b/");
      touch(folder.path() / "file");
      CHECK_FALSE(fs::exists(dir / "a/b"));
      folder.commit();
    }
    CHECK(fs::exists(dir / "a/b/file"));
    fs::create_directory(dir / "plain");
    CHECK(fs::status(dir / "a/b").permissions() == fs::status(dir / "plain").permissions());
    CHECK(std::distance(fs::directory_iterator(dir / "a"), {}) == 1);
  }

  TEST_CASE("what is not committed leaves nothing, but what others put beside it") {
    const TempDir dir;
    { const NewFolder folder(dir / "a/b/c"); }
    CHECK_FALSE(fs::exists(dir / "a"));
    {
      const NewFolder folder(dir / "a/b/c");
      touch(dir / "a/other");
    }
    CHECK(fs::exists(dir / "a/other"));
    CHECK_FALSE(fs::exists(dir / "a/b"));
  }

  TEST_CASE("an empty folder is taken, anything else is refused") {
    const TempDir dir;
    fs::create_directory(dir / "empty");
    NewFolder folder(dir / "empty");
    touch(folder.path() / "file");
    folder.commit();
    CHECK(fs::exists(dir / "empty/file"));
    for (const char* name : {"empty", "empty/file"}) {
      const auto refusal = error_of([&] { NewFolder again(dir / name); });
      CHECK(refusal.kind() == ErrorKind::usage);
      CHECK(std::string(refusal.what()) ==
            "expected a new or empty folder, got one that is not: " + (dir / name).string());
    }
    CHECK(error_of([&] { NewFolder below(dir / "empty/file/x"); }).kind() == ErrorKind::io);
  }
}

}  // namespace
}  // namespace klein::flux2
