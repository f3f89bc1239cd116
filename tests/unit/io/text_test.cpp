#include "klein/io/text.h"

#include <doctest/doctest.h>

namespace klein::io {
namespace {

TEST_SUITE("io/text") {
  TEST_CASE("plain text stays as it is, in any script") {
    CHECK(printable("a b/c.d") == "a b/c.d");
    CHECK(printable("größe 猫 🦊") == "größe 猫 🦊");
    CHECK(in_quotes("") == "\"\"");
  }

  TEST_CASE("what steers a terminal is escaped") {
    CHECK(printable("a\nb\tc\r\x1b[31m\x7f") == "a\\nb\\tc\\x0d\\x1b[31m\\x7f");
    CHECK(printable("\xc2\x9b") == "\\u009b");
    CHECK(printable("\xe2\x80\xaegnp.exe") == "\\u202egnp.exe");
  }

  TEST_CASE("broken UTF-8 is shown byte by byte") {
    CHECK(printable("\xff") == "\\xff");
    CHECK(printable("a\xe2\x82") == "a\\xe2\\x82");
    CHECK(printable("\xc0\xaf") == "\\xc0\\xaf");
    CHECK(printable("\xed\xa0\x80") == "\\xed\\xa0\\x80");
    CHECK(printable("\xf5\x80\x80\x80") == "\\xf5\\x80\\x80\\x80");
  }

  TEST_CASE("long text is cut between characters") {
    CHECK(printable("abcdef", 3) == "abc...");
    CHECK(printable("abc", 3) == "abc");
    CHECK(printable("ab猫d", 3) == "ab猫...");
  }

  TEST_CASE("the length of a character is told") {
    CHECK(utf8_length("a") == 1);
    CHECK(utf8_length("ö") == 2);
    CHECK(utf8_length("猫") == 3);
    CHECK(utf8_length("🦊x") == 4);
    CHECK(utf8_length("\x80") == 0);
    CHECK(utf8_length("") == 0);
  }
}

}  // namespace
}  // namespace klein::io
