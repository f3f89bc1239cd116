#include "klein/hub/names.h"

#include <string>

#include <doctest/doctest.h>

namespace klein::hub {
namespace {

TEST_SUITE("hub/names") {
  TEST_CASE("a repository is org/name in the hub's letters") {
    for (const char* good : {"org/repo", "black-forest-labs/FLUX.2-klein-4B", "a/b", "_a/b_"}) {
      CAPTURE(good);
      CHECK(is_repo_id(good));
    }
    for (const char* bad :
         {"", "repo", "/repo", "org/", "a/b/c", "./repo", "../repo", "~/repo", "a/-b", "a/b.",
          "a/b--c", "a..b/c", "a/b.git", "a b/c", "a/\xc3\xa9", "a/b:c"}) {
      CAPTURE(bad);
      CHECK_FALSE(is_repo_id(bad));
    }
    CHECK(is_repo_id("a/" + std::string(96, 'b')));
    CHECK_FALSE(is_repo_id("a/" + std::string(97, 'b')));
  }

  TEST_CASE("commits and checksums are hex digits of the right number") {
    CHECK(is_commit(std::string(40, 'a')));
    CHECK_FALSE(is_commit(std::string(40, 'A')));
    CHECK_FALSE(is_commit(std::string(39, 'a')));
    CHECK_FALSE(is_commit(std::string(39, 'a') + '/'));
    CHECK(is_etag(std::string(64, '0')));
    CHECK(is_etag(std::string(40, '0')));
    CHECK_FALSE(is_etag(std::string(41, '0')));
  }

  TEST_CASE("a file name stays inside of the folder it is joined to") {
    for (const char* good : {"a", "a/b.json", "a..b", "...", ".gitattributes", "a b", "\xc3\xa9"}) {
      CAPTURE(good);
      CHECK(is_inside(good));
    }
    for (const char* bad : {"", ".", "..", "/a", "a/", "a//b", "../a", "a/../b", "a/..", "./a",
                            "a\\b", "a\nb", "a\x7f"}) {
      CAPTURE(bad);
      CHECK_FALSE(is_inside(bad));
    }
    CHECK_FALSE(is_inside(std::string("a\0b", 3)));
    CHECK_FALSE(is_inside(std::string(256, 'a')));
  }
}

}  // namespace
}  // namespace klein::hub
