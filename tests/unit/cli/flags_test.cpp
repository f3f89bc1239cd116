#include "klein/cli/flags.h"

#include <doctest/doctest.h>

namespace klein::cli {
namespace {

TEST_SUITE("cli/flags") {
  TEST_CASE("numbers are told from words, whatever their range") {
    for (const char* number : {"7", "-3", "1e5", ".5", "99999999999999999999", "1e999", "nan"}) {
      CAPTURE(number);
      CHECK(is_number(number));
    }
    for (const char* word : {"", "-", "7 apples", "x7", "0x1f", "1,5"}) {
      CAPTURE(word);
      CHECK_FALSE(is_number(word));
    }
  }

  TEST_CASE("blanks around a text go, those inside stay") {
    CHECK(stripped(" \t\r\n a b \n\n") == "a b");
    CHECK(stripped(" \n") == "");
    CHECK(stripped("") == "");
  }

  TEST_CASE("a guarded text comes back as it was") {
    for (const std::string text :
         {"[a,b]", "[]", "[", "]", "", "a", "[a]\x1f", "[\x1f", "[a]\x1f\x1f"}) {
      CAPTURE(text);
      const bool is_list = text.size() > 1 && text.starts_with('[') && text.ends_with(']');
      CHECK(unguarded(guarded(text)) == text);
      if (is_list) CHECK_FALSE(guarded(text).ends_with(']'));
    }
  }
}

}  // namespace
}  // namespace klein::cli
