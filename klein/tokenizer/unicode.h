#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

namespace klein::tokenizer {

/// `text` with every broken UTF-8 sequence replaced by U+FFFD, as Python's errors="replace" does
/// it.
///
/// Errors   Error(usage) for a text above io::kMaxTextBytes
std::string repair_utf8(std::string_view text);

/// UTF-8, valid, to UTF-16 and back.
std::u16string to_utf16(std::string_view text);
std::string to_utf8(std::u16string_view text);

/// Canonical composition (NFC) as the reference has it: characters younger than Unicode 9 are left
/// alone and part their neighbours. O(n log n), also for a letter with 100 000 accents.
///
/// Thread   any, once made
/// Source   tokenizers 0.23: unicode-normalization-alignments 0.1
class Nfc {
 public:
  Nfc();
  Nfc(Nfc&&) noexcept;
  Nfc& operator=(Nfc&&) noexcept;
  ~Nfc();

  std::u16string operator()(std::u16string text) const;

 private:
  struct Impl;
  std::unique_ptr<const Impl> impl_;
};

/// A part of a text, in UTF-16 units.
struct Span {
  std::size_t begin;
  std::size_t end;
};

/// The work that all matches of one text may cost together: a bound for each of them alone would
/// let a hostile expression spend it at every letter.
struct MatchBudget {
  explicit MatchBudget(std::size_t text_size);

  std::int64_t left;  ///< In ICU's units of 10 000 steps, about 0.2 ms each.
};

/// A compiled regular expression that cuts text into its matches and what lies between them.
///
/// Thread   any, once made
class Splitter {
 public:
  /// Errors   Error(format) when ICU cannot compile it; Error(unsupported) as to_icu_pattern
  explicit Splitter(std::string_view regex);
  Splitter(Splitter&&) noexcept;
  Splitter& operator=(Splitter&&) noexcept;
  ~Splitter();

  /// Cuts each of `spans` on its own: the expression sees nothing outside of it. No result is
  /// empty. The work is taken from `budget`.
  ///
  /// Errors   Error(unsupported) when the expression backtracks so much that nothing is left
  std::vector<Span> split(std::u16string_view text, const std::vector<Span>& spans,
                          MatchBudget& budget) const;

 private:
  struct Impl;
  std::unique_ptr<const Impl> impl_;
};

}  // namespace klein::tokenizer
