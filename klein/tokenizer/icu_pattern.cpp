#include "klein/tokenizer/icu_pattern.h"

#include <cstddef>

#include <fmt/format.h>

#include "klein/core/error.h"
#include "klein/io/text.h"

namespace klein::tokenizer {
namespace {

// Letters and decimal digits that came with Unicode 15.1 and 16.0; Debian 12's ICU knows 15.0.
constexpr const char* kNewLetters =
    "\\x{1C89}-\\x{1C8A}\\x{A7CB}-\\x{A7CD}\\x{A7DA}-\\x{A7DC}\\x{105C0}-\\x{105F3}"
    "\\x{10D4A}-\\x{10D65}\\x{10D6F}-\\x{10D85}\\x{10EC2}-\\x{10EC4}\\x{11380}-\\x{11389}\\x{1138B}"
    "\\x{1138E}\\x{11390}-\\x{113B5}\\x{113B7}\\x{113D1}\\x{113D3}\\x{11BC0}-\\x{11BE0}"
    "\\x{13460}-\\x{143FA}\\x{16100}-\\x{1611D}\\x{16D40}-\\x{16D6C}\\x{18CFF}\\x{1E5D0}-\\x{1E5ED}"
    "\\x{1E5F0}\\x{2EBF0}-\\x{2EE5D}";
constexpr const char* kNewDigits =
    "\\x{10D40}-\\x{10D49}\\x{116D0}-\\x{116E3}\\x{11BF0}-\\x{11BF9}\\x{16130}-\\x{16139}"
    "\\x{16D70}-\\x{16D79}\\x{1CCF0}-\\x{1CCF9}\\x{1E5F1}-\\x{1E5FA}";

std::string unicode_16_set(std::string_view category, bool negated) {
  return fmt::format("[{}[\\p{{{}}}&&\\p{{Age=16.0}}]{}]", negated ? "^" : "", category,
                     category == "L" ? kNewLetters : kNewDigits);
}

/// Walks over the pattern once, copying or replacing one element at a time.
class Translator {
 public:
  explicit Translator(std::string_view regex) : regex_(regex) {}

  std::string run() {
    while (at_ < regex_.size()) {
      const char c = regex_[at_];
      if (c == '\\')
        escape();
      else if (class_depth_ > 0)
        inside_class(c);
      else
        outside_class(c);
    }
    return result_;
  }

 private:
  [[noreturn]] void refuse(std::string_view element) const {
    throw Error(ErrorKind::unsupported,
                fmt::format("{} is not supported in the regular expression {}",
                            io::in_quotes(element), io::in_quotes(regex_)));
  }

  void copy(std::size_t length) {
    result_ += regex_.substr(at_, length);
    at_ += length;
  }

  void inside_class(char c) {
    if (c == '[') ++class_depth_;
    if (c == ']') --class_depth_;
    copy(1);
  }

  void outside_class(char c) {
    if (c == '^' || c == '$') refuse(regex_.substr(at_, 1));  // Line anchors in one, not the other.
    if (c == '}' && regex_.substr(at_, 2) == "}+") refuse("}+");  // Possessive in ICU alone.
    if (c == '[') ++class_depth_;
    if (c == '(' && regex_.substr(at_, 2) == "(?") {
      const std::size_t flags_end = regex_.find_first_not_of("imsxadu-", at_ + 2);
      const std::string_view flags = regex_.substr(at_ + 2, flags_end - at_ - 2);
      if (flags.find_first_not_of("ix-") != std::string_view::npos)
        refuse(regex_.substr(at_, flags.size() + 2));
      copy(2 + flags.size());
      return;
    }
    copy(1);
  }

  void escape() {
    const char letter = at_ + 1 < regex_.size() ? regex_[at_ + 1] : '\0';
    if (letter == 'p' || letter == 'P') {
      property(letter == 'P');
    } else if (letter == 'd' || letter == 'D') {
      result_ += unicode_16_set("Nd", letter == 'D');
      at_ += 2;
    } else {
      const bool is_alphanumeric = (letter >= '0' && letter <= '9') ||
                                   (letter >= 'a' && letter <= 'z') ||
                                   (letter >= 'A' && letter <= 'Z');
      constexpr std::string_view kSameInBoth = "sSrntfaexu";
      if (is_alphanumeric && kSameInBoth.find(letter) == std::string_view::npos)
        refuse(regex_.substr(at_, 2));
      copy(2);
    }
  }

  void property(bool negated) {
    const std::size_t close = regex_.find('}', at_);
    const std::string_view braced = regex_.substr(at_ + 2, close - at_ - 1);
    for (const char* const category : {"L", "N", "Nd"}) {
      if (braced != fmt::format("{{{}}}", category)) continue;
      result_ += unicode_16_set(category, negated);
      at_ += 2 + braced.size();
      return;
    }
    copy(close == std::string_view::npos ? 2 : 2 + braced.size());
  }

  std::string_view regex_;
  std::string result_;
  std::size_t at_ = 0;
  int class_depth_ = 0;
};

}  // namespace

std::string to_icu_pattern(std::string_view regex) {
  return Translator(regex).run();
}

}  // namespace klein::tokenizer
