#include "klein/hub/http.h"

#include <doctest/doctest.h>

namespace klein::hub {
namespace {

TEST_SUITE("hub/http") {
  TEST_CASE("what an address cannot hold is written in hex") {
    CHECK(percent_encoded("vae/a b.json", true) == "vae/a%20b.json");
    CHECK(percent_encoded("refs/pr/1", false) == "refs%2Fpr%2F1");
    CHECK(percent_encoded("a?b#c%d&\xc3\xa9", true) == "a%3Fb%23c%25d%26%C3%A9");
    CHECK(percent_encoded("A-z_0.9~", false) == "A-z_0.9~");
  }

  TEST_CASE("a server says in seconds how long to wait") {
    const auto after = [](const char* text) {
      return retry_after({.headers = {{"retry-after", text}}});
    };
    CHECK(after("7") == 7.0);
    CHECK_FALSE(after("").has_value());
    CHECK_FALSE(after("-1").has_value());
    CHECK_FALSE(after("Wed, 21 Oct 2026 07:28:00 GMT").has_value());
    CHECK_FALSE(retry_after({}).has_value());
  }
}

}  // namespace
}  // namespace klein::hub
