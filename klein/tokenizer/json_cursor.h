#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>
#include <string_view>

namespace klein::tokenizer {

/// Reads JSON text from front to back without building a tree: ten megabytes of strings in
/// hundredths of a second.
///
/// Errors   every function: Error(format), "expected JSON, got an error at byte 17: PATH"
class JsonCursor {
 public:
  /// Both must outlive the cursor.
  JsonCursor(std::string_view text, const std::filesystem::path& path) : text_(text), path_(path) {}

  /// The next character that is not white space; '\0' at the end.
  char peek();

  /// Steps over the next character that is not white space if it is `expected`.
  bool take(char expected);

  /// For the loop over an object or array whose opening bracket was taken: true when another
  /// element follows, false once the closing `bracket` was taken.
  bool next_element(char bracket, bool is_first);

  /// A string, decoded and checked to be UTF-8. Valid until the next string().
  std::string_view string();

  /// A key and its colon.
  std::string_view key();

  /// A number without sign, fraction and exponent, at most `kLargest`; none for any other value,
  /// which is then left where it is.
  std::optional<std::int64_t> whole_number();
  static constexpr std::int64_t kLargest = std::int64_t{1} << 53;

  /// The text of the next value, whatever it is. Only its extent is known to be right.
  std::string_view raw_value();

  /// Throws unless only white space is left.
  void expect_end();

  /// Bytes read so far.
  std::size_t position() const { return at_; }

  [[noreturn]] void fail() const;

 private:
  std::string_view decoded_string();
  void decode_escape();
  std::uint32_t hex4();
  void skip_string();

  std::string_view text_;
  const std::filesystem::path& path_;
  std::size_t at_ = 0;
  std::string scratch_;
};

}  // namespace klein::tokenizer
