#pragma once

#include <array>
#include <optional>
#include <string>
#include <string_view>

namespace klein::tokenizer {

/// The spelling of every byte in a byte-level vocabulary: 256 visible characters, as UTF-8.
///
/// The printable bytes 33-126, 161-172 and 174-255 are the character of the same number; the others
/// are U+0100, U+0101, ... in order, so that a space is U+0120.
///
/// Source   GPT-2 encoder.py, bytes_to_unicode
const std::array<std::string, 256>& byte_spellings();

/// `bytes` in the vocabulary's spelling.
std::string spell_bytes(std::string_view bytes);

/// The bytes that `spelling` stands for; none when it has a character outside the alphabet.
std::optional<std::string> unspell_bytes(std::string_view spelling);

}  // namespace klein::tokenizer
