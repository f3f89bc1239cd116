#include "klein/hub/listing.h"

#include <doctest/doctest.h>
#include <fmt/format.h>

#include "unit/io/support.h"

namespace klein::hub {
namespace {

using io::test::error_of;

const std::string kCommit(40, 'c');
const std::string kBlob(40, 'b');
const std::string kSha(64, 'a');

std::string answer(const std::string& siblings) {
  return fmt::format(R"({{"sha": "{}", "gated": false, "siblings": [{}]}})", kCommit, siblings);
}

TEST_SUITE("hub/listing") {
  TEST_CASE("a large file is known by its SHA-256, a small one by its name in git") {
    const auto listing =
        parse_listing(answer(fmt::format(R"({{"rfilename": "a.json", "size": 12, "blobId": "{0}"}},
                              {{"rfilename": "vae/b.safetensors", "size": 99, "blobId": "{0}",
                                "lfs": {{"sha256": "{1}", "size": 99, "pointerSize": 3}}}})",
                                         kBlob, kSha)),
                      "org/x");
    CHECK(listing.commit == kCommit);
    CHECK(listing.files.size() == 2);
    CHECK(listing.files.at("a.json").etag == kBlob);
    CHECK(listing.files.at("a.json").bytes == 12);
    CHECK(listing.files.at("vae/b.safetensors").etag == kSha);
    CHECK(listing.files.at("vae/b.safetensors").bytes == 99);
  }

  TEST_CASE("an answer that cannot be true is refused") {
    const auto file = [](const char* name, const std::string& blob, const char* size) {
      return answer(
          fmt::format(R"({{"rfilename": "{}", "size": {}, "blobId": "{}"}})", name, size, blob));
    };
    const std::string where = "answer of the hub about org/x";
    const std::pair<std::string, std::string> table[] = {
        {"<html>",
         "expected JSON, got an error at line 1, column 1 (invalid literal; last read: '<'): " +
             where},
        {"[]", where + ": expected an object, got an array of 0"},
        {"{}", where + ": `sha` is missing"},
        {R"({"sha": "main", "siblings": []})",
         "expected a commit of 40 hex digits from the hub, got \"main\": org/x"},
        {fmt::format(R"({{"sha": "{}"}})", kCommit), where + ": `siblings` is missing"},
        {file("../x", kBlob, "1"),
         "expected names of files inside of a folder from the hub, got \"../x\": org/x"},
        {file("x", "main", "1"), "expected the checksum of x from the hub, got \"main\": org/x"},
        {file("x", kBlob, "-1"), where + ": `size` is out of range: expected a whole number from 0 "
                                         "to 18446744073709551615, got -1"},
        {file("x", kBlob, "1125899906842625"),
         "expected the size of x from the hub, got \"1125899906842625\": org/x"},
    };
    for (const auto& [text, message] : table) {
      const auto error = error_of([&] { parse_listing(text, "org/x"); });
      CHECK(std::string(error.what()) == message);
      CHECK(error.kind() == ErrorKind::format);
    }
  }
}

}  // namespace
}  // namespace klein::hub
