#include "klein/tokenizer/byte_alphabet.h"

#include <set>

#include <doctest/doctest.h>

namespace klein::tokenizer {

TEST_SUITE("tokenizer/byte_alphabet") {
  TEST_CASE("printable bytes are themselves and the others follow from U+0100") {
    CHECK(byte_spellings()['a'] == "a");
    CHECK(byte_spellings()[0] == "\u0100");
    CHECK(byte_spellings()[' '] == "\u0120");
    CHECK(byte_spellings()[127] == "\u0121");
    CHECK(byte_spellings()[160] == "\u0142");
    CHECK(byte_spellings()[161] == "\u00A1");
    CHECK(byte_spellings()[173] == "\u0143");
    CHECK(byte_spellings()[255] == "\u00FF");
  }

  TEST_CASE("every byte has its own spelling, which reads back as the byte") {
    std::set<std::string> spellings;
    std::string all;
    for (int byte = 0; byte < 256; ++byte) all += static_cast<char>(byte);
    for (const auto& spelling : byte_spellings()) spellings.insert(spelling);
    CHECK(spellings.size() == 256);
    CHECK(unspell_bytes(spell_bytes(all)) == all);
  }

  TEST_CASE("a character outside of the alphabet stands for no byte") {
    for (const char* text : {" ", "\n", "\u00A0", "\u00AD", "\u0144", "\u4E00", "a\xC4", "\xFF"})
      CHECK_MESSAGE(!unspell_bytes(text), text);
  }
}

}  // namespace klein::tokenizer
