#include "klein/tokenizer/vocabulary.h"

#include <string>

#include <doctest/doctest.h>

namespace klein::tokenizer {

TEST_SUITE("tokenizer/vocabulary") {
  using Outcome = Vocabulary::Outcome;

  TEST_CASE("tokens are found by text and by id, also after the table has grown") {
    Vocabulary vocabulary;
    CHECK(vocabulary.count() == 0);
    CHECK(!vocabulary.find("7"));
    for (int i = 0; i < 5000; ++i)
      REQUIRE(vocabulary.add(std::to_string(i), 2 * i) == Outcome::added);
    CHECK(vocabulary.size() == 9999);
    CHECK(vocabulary.count() == 5000);
    for (int i = 0; i < 5000; ++i) {
      REQUIRE(vocabulary.find(std::to_string(i)) == 2 * i);
      REQUIRE(vocabulary.text(2 * i) == std::to_string(i));
      REQUIRE(!vocabulary.text(2 * i + 1));
    }
    CHECK(!vocabulary.find("5000"));
    CHECK(!vocabulary.text(-1));
    CHECK(!vocabulary.text(10000));
  }

  TEST_CASE("a second token with the same text or id is refused and changes nothing") {
    Vocabulary vocabulary;
    REQUIRE(vocabulary.add("a", 0) == Outcome::added);
    CHECK(vocabulary.add("a", 1) == Outcome::same_text);
    CHECK(vocabulary.add("b", 0) == Outcome::same_id);
    CHECK(vocabulary.size() == 1);
    CHECK(!vocabulary.find("b"));
  }

  TEST_CASE("an id outside of the range is refused before anything is allocated for it") {
    Vocabulary vocabulary;
    CHECK(vocabulary.add("a", -1) == Outcome::id_out_of_range);
    CHECK(vocabulary.add("a", Vocabulary::kMaxId + 1) == Outcome::id_out_of_range);
    CHECK(vocabulary.add("a", Vocabulary::kMaxId) == Outcome::added);
  }

  TEST_CASE("texts may be empty or hold zero bytes") {
    using namespace std::string_view_literals;
    Vocabulary vocabulary;
    REQUIRE(vocabulary.add("", 0) == Outcome::added);
    REQUIRE(vocabulary.add("\0"sv, 1) == Outcome::added);
    CHECK(vocabulary.find("") == 0);
    CHECK(vocabulary.find("\0"sv) == 1);
  }
}

}  // namespace klein::tokenizer
