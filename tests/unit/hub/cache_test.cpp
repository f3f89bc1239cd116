#include "klein/hub/cache.h"

#include <atomic>
#include <thread>

#include <doctest/doctest.h>

#include "unit/io/support.h"

namespace klein::hub {
namespace {

namespace fs = std::filesystem;
using io::test::content;
using io::test::error_of;
using io::test::TempDir;

const std::string kCommit(40, 'c');
const std::string kEtag(64, 'e');

TEST_SUITE("hub/cache") {
  TEST_CASE("files lie where huggingface_hub has them") {
    const RepoCache cache("/hub", "org/name");
    CHECK(cache.folder() == "/hub/models--org--name");
    CHECK(cache.blob(kEtag) == "/hub/models--org--name/blobs/" + kEtag);
    CHECK(cache.incomplete(kEtag) == "/hub/models--org--name/blobs/" + kEtag + ".incomplete");
    CHECK(cache.snapshot(kCommit) == "/hub/models--org--name/snapshots/" + kCommit);
    CHECK(cache.lock(kEtag) == "/hub/.locks/models--org--name/" + kEtag + ".lock");
  }

  TEST_CASE("a revision is the commit that refs/ remembers") {
    const TempDir folder;
    const RepoCache cache(folder.path(), "a/b");
    CHECK_FALSE(cache.commit_of("main").has_value());
    cache.write_ref("main", kCommit);
    CHECK(content(cache.folder() / "refs/main") == kCommit);
    CHECK(cache.commit_of("main") == kCommit);
    cache.write_ref("refs/pr/1", kCommit);
    CHECK(cache.commit_of("refs/pr/1") == kCommit);
    CHECK(cache.commit_of(kCommit) == kCommit);
    CHECK_FALSE(cache.commit_of("../refs/main").has_value());
    folder.file("models--a--b/refs/main", "../../..");
    CHECK_FALSE(cache.commit_of("main").has_value());
  }

  TEST_CASE("a snapshot holds relative links, and a link to nothing is no file") {
    const TempDir folder;
    const RepoCache cache(folder.path(), "a/b");
    cache.link(kCommit, "x.json", kEtag);
    cache.link(kCommit, "vae/deep/x.json", kEtag);
    const auto root = cache.snapshot(kCommit);
    CHECK(fs::read_symlink(root / "x.json") == "../../blobs/" + kEtag);
    CHECK(fs::read_symlink(root / "vae/deep/x.json") == "../../../../blobs/" + kEtag);
    CHECK(cache.files(kCommit).empty());
    CHECK_FALSE(cache.is_linked(kCommit, "x.json", kEtag));

    make_folder(cache.folder() / "blobs");
    folder.file("models--a--b/blobs/" + kEtag, "text");
    CHECK(cache.files(kCommit).size() == 2);
    CHECK(content(cache.files(kCommit).at("vae/deep/x.json")) == "text");
    CHECK(cache.is_linked(kCommit, "x.json", kEtag));
  }

  TEST_CASE("a link replaces whatever had its name") {
    const TempDir folder;
    const RepoCache cache(folder.path(), "a/b");
    make_folder(cache.snapshot(kCommit));
    folder.file("models--a--b/snapshots/" + kCommit + "/x", "old");
    cache.link(kCommit, "x", kEtag);
    CHECK(fs::read_symlink(cache.snapshot(kCommit) / "x") == "../../blobs/" + kEtag);
  }

  TEST_CASE("a lock is had by one at a time, and waiting for it can be stopped") {
    const TempDir folder;
    const auto path = folder / "locks/x.lock";
    std::atomic<bool> is_taken = false;
    std::thread second;
    {
      const FileLock lock(path, [] { return true; });
      CHECK(error_of([&] { FileLock(path, [] { return false; }); }).kind() == ErrorKind::cancelled);
      second = std::thread([&] {
        const FileLock other(path, [] { return true; });
        is_taken = true;
      });
      std::this_thread::sleep_for(std::chrono::milliseconds(120));
      CHECK_FALSE(is_taken);
    }
    second.join();
    CHECK(is_taken);
  }
}

}  // namespace
}  // namespace klein::hub
