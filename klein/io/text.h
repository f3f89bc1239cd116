#pragma once

#include <cstddef>
#include <string>
#include <string_view>

namespace klein::io {

/// `text` as it may stand in a message: quoted, control characters and broken UTF-8 escaped, long
/// text cut. What a file says may be hostile and ends up on a terminal.
std::string in_quotes(std::string_view text, std::size_t max_bytes = 80);

/// The same without the quotes.
std::string printable(std::string_view text, std::size_t max_bytes = 80);

/// Bytes of the UTF-8 character at the front of `text`, or 0 where it is none.
std::size_t utf8_length(std::string_view text);

}  // namespace klein::io
