#include "klein/hub/digest.h"

#include <doctest/doctest.h>

#include "klein/io/file.h"

namespace klein::hub {
namespace {

TEST_SUITE("hub/digest") {
  TEST_CASE("a large file is named by the SHA-256 of its content") {
    Digest digest(std::string(64, '0'), 3);
    digest.add(io::as_bytes("a"));
    digest.add(io::as_bytes("bc"));
    // FIPS 180-2, appendix B.1
    CHECK(digest.finish() == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
    digest.restart();
    CHECK(digest.finish() == "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
  }

  TEST_CASE("a small file has the name that git gives it") {
    Digest digest(std::string(40, '0'), 6);
    digest.add(io::as_bytes("hello\n"));
    // printf 'hello\n' | git hash-object --stdin
    CHECK(digest.finish() == "ce013625030ba8dba906f756967f9e9ca394464a");
  }
}

}  // namespace
}  // namespace klein::hub
