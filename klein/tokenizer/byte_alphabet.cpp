#include "klein/tokenizer/byte_alphabet.h"

#include <cstddef>

namespace klein::tokenizer {
namespace {

constexpr int kFirstStandIn = 0x100;
constexpr int kEndOfStandIns = 0x144;  // 68 bytes are not printable.

constexpr bool is_printable(int byte) {
  return (byte >= 33 && byte <= 126) || (byte >= 161 && byte <= 172) || byte >= 174;
}

// Every character of the alphabet is below U+0800.
std::string to_utf8(int code_point) {
  if (code_point < 0x80) return {static_cast<char>(code_point)};
  return {static_cast<char>(0xC0 | (code_point >> 6)),
          static_cast<char>(0x80 | (code_point & 0x3F))};
}

std::array<int, kEndOfStandIns> make_bytes_of_characters() {
  std::array<int, kEndOfStandIns> bytes{};
  bytes.fill(-1);
  int stand_in = kFirstStandIn;
  for (int byte = 0; byte < 256; ++byte) {
    const int character = is_printable(byte) ? byte : stand_in++;
    bytes[static_cast<std::size_t>(character)] = byte;
  }
  return bytes;
}

}  // namespace

const std::array<std::string, 256>& byte_spellings() {
  static const auto spellings = [] {
    std::array<std::string, 256> result;
    int stand_in = kFirstStandIn;
    for (int byte = 0; byte < 256; ++byte)
      result[static_cast<std::size_t>(byte)] = to_utf8(is_printable(byte) ? byte : stand_in++);
    return result;
  }();
  return spellings;
}

std::string spell_bytes(std::string_view bytes) {
  const auto& spellings = byte_spellings();
  std::string spelling;
  for (const char byte : bytes) spelling += spellings[static_cast<unsigned char>(byte)];
  return spelling;
}

std::optional<std::string> unspell_bytes(std::string_view spelling) {
  static const auto bytes_of_characters = make_bytes_of_characters();
  std::string bytes;
  for (std::size_t i = 0; i < spelling.size(); ++i) {
    int character = static_cast<unsigned char>(spelling[i]);
    if (character >= 0x80) {
      const bool starts_pair = (character & 0xE0) == 0xC0 && i + 1 < spelling.size();
      if (!starts_pair) return std::nullopt;
      character = ((character & 0x1F) << 6) | (static_cast<unsigned char>(spelling[++i]) & 0x3F);
    }
    if (character >= kEndOfStandIns) return std::nullopt;
    const int byte = bytes_of_characters[static_cast<std::size_t>(character)];
    if (byte < 0) return std::nullopt;
    bytes += static_cast<char>(byte);
  }
  return bytes;
}

}  // namespace klein::tokenizer
