#include "klein/tokenizer/unicode.h"

#include <algorithm>
#include <cstdint>
#include <utility>

#include <fmt/format.h>
#include <unicode/normalizer2.h>
#include <unicode/regex.h>
#include <unicode/uniset.h>
#include <unicode/ustring.h>

#include "klein/core/error.h"
#include "klein/io/file.h"
#include "klein/io/text.h"
#include "klein/tokenizer/icu_pattern.h"

namespace klein::tokenizer {
namespace {

// No mark composes with anything below U+0300, and nothing below it changes under NFC.
constexpr char16_t kFirstMark = 0x300;

// ICU sorts marks by insertion, which is quadratic: longer runs are sorted here first.
constexpr std::size_t kLongestInsertedRun = 32;

constexpr std::int64_t kSmallestBudget = 4000;  // about a second
constexpr std::int64_t kLettersPerUnit = 16;    // 625 steps a letter, of which real ones need few

// A run of spaces takes 12 of ICU's stack units a character. Above the largest limit it silently
// keeps the smallest.
constexpr std::int64_t kSmallestStack = 8'000'000;
constexpr std::int64_t kStackPerUnit = 32;
constexpr std::int64_t kLargestStack = 1'000'000'000;

icu::UnicodeString view_of(std::u16string_view text) {
  return {false, text.data(), static_cast<std::int32_t>(text.size())};  // No copy.
}

std::u16string string_of(const icu::UnicodeString& text) {
  return {text.getBuffer(), static_cast<std::size_t>(text.length())};
}

void expect_success(UErrorCode status, std::string_view what) {
  if (U_FAILURE(status))
    throw Error(ErrorKind::internal,
                fmt::format("ICU: {} failed with {}", what, u_errorName(status)));
}

bool is_valid_utf8(std::string_view text) {
  UErrorCode status = U_ZERO_ERROR;
  std::int32_t units = 0;
  u_strFromUTF8(nullptr, 0, &units, text.data(), static_cast<std::int32_t>(text.size()), &status);
  return status != U_INVALID_CHAR_FOUND;
}

}  // namespace

std::string repair_utf8(std::string_view text) {
  if (text.size() > io::kMaxTextBytes)
    throw Error(ErrorKind::usage, fmt::format("expected a text of at most {} bytes, got {}",
                                              io::kMaxTextBytes, text.size()));
  if (is_valid_utf8(text)) return std::string(text);
  return to_utf8(to_utf16(text));
}

std::u16string to_utf16(std::string_view text) {
  return string_of(icu::UnicodeString::fromUTF8(
      icu::StringPiece(text.data(), static_cast<std::int32_t>(text.size()))));
}

std::string to_utf8(std::u16string_view text) {
  std::string result;
  view_of(text).toUTF8String(result);
  return result;
}

struct Nfc::Impl {
  explicit Impl(UErrorCode& status)
      : known(icu::UnicodeString(u"[:Age=9.0:]"), status),
        normalizer(*icu::Normalizer2::getNFCInstance(status), known) {
    known.freeze();
  }

  /// The canonical order of `text` where it has long runs of marks, decomposed there.
  icu::UnicodeString sort_long_runs(const icu::UnicodeString& text) const;

  icu::UnicodeSet known;
  icu::FilteredNormalizer2 normalizer;
};

icu::UnicodeString Nfc::Impl::sort_long_runs(const icu::UnicodeString& text) const {
  struct Mark {
    UChar32 character;
    std::uint8_t combining_class;
  };
  icu::UnicodeString result;
  std::vector<Mark> run;
  std::int32_t run_begin = 0;
  const auto end_run = [&](std::int32_t run_end) {
    if (run.size() > kLongestInsertedRun) {
      std::stable_sort(run.begin(), run.end(), [](const Mark& a, const Mark& b) {
        return a.combining_class < b.combining_class;
      });
      for (const Mark& mark : run) result.append(mark.character);
    } else {
      result.append(text, run_begin, run_end - run_begin);
    }
    run.clear();
  };

  icu::UnicodeString parts;
  for (std::int32_t at = 0; at < text.length(); at = text.moveIndex32(at, 1)) {
    const UChar32 c = text.char32At(at);
    if (!normalizer.getDecomposition(c, parts)) parts.setTo(c);
    // Some marks, such as U+0F73, are of class 0 and only their parts are not.
    const bool is_mark = c >= kFirstMark && normalizer.getCombiningClass(parts.char32At(0)) != 0;
    if (!is_mark) {
      end_run(at);
      run_begin = text.moveIndex32(at, 1);
      result.append(c);
      continue;
    }
    for (std::int32_t i = 0; i < parts.length(); i = parts.moveIndex32(i, 1))
      run.push_back({parts.char32At(i), normalizer.getCombiningClass(parts.char32At(i))});
  }
  end_run(text.length());
  return result;
}

Nfc::Nfc() {
  UErrorCode status = U_ZERO_ERROR;
  impl_ = std::make_unique<const Impl>(status);
  expect_success(status, "NFC");
}

Nfc::Nfc(Nfc&&) noexcept = default;
Nfc& Nfc::operator=(Nfc&&) noexcept = default;
Nfc::~Nfc() = default;

std::u16string Nfc::operator()(std::u16string text) const {
  const auto may_change = [](char16_t unit) { return unit >= kFirstMark; };
  if (std::none_of(text.begin(), text.end(), may_change)) return text;

  UErrorCode status = U_ZERO_ERROR;
  icu::UnicodeString composed;
  impl_->normalizer.normalize(impl_->sort_long_runs(view_of(text)), composed, status);
  expect_success(status, "NFC");
  return string_of(composed);
}

struct Splitter::Impl {
  std::unique_ptr<icu::RegexPattern> pattern;
};

Splitter::Splitter(std::string_view regex) {
  const std::string translated = to_icu_pattern(regex);
  UErrorCode status = U_ZERO_ERROR;
  UParseError where{};
  // Only \n ends a line for `.` in Oniguruma.
  std::unique_ptr<icu::RegexPattern> pattern(icu::RegexPattern::compile(
      icu::UnicodeString::fromUTF8(translated), UREGEX_UNIX_LINES, where, status));
  if (U_FAILURE(status))
    throw Error(ErrorKind::format, fmt::format("expected a regular expression, ICU says {} of {}",
                                               u_errorName(status), io::in_quotes(regex)));
  impl_ = std::make_unique<const Impl>(Impl{std::move(pattern)});
}

Splitter::Splitter(Splitter&&) noexcept = default;
Splitter& Splitter::operator=(Splitter&&) noexcept = default;
Splitter::~Splitter() = default;

MatchBudget::MatchBudget(std::size_t text_size)
    : left(kSmallestBudget + static_cast<std::int64_t>(text_size) / kLettersPerUnit) {}

std::vector<Span> Splitter::split(std::u16string_view text, const std::vector<Span>& spans,
                                  MatchBudget& budget) const {
  UErrorCode status = U_ZERO_ERROR;
  const icu::UnicodeString input = view_of(text);
  const std::unique_ptr<icu::RegexMatcher> matcher(impl_->pattern->matcher(input, status));
  expect_success(status, "a regular expression");

  const std::int64_t stack = std::clamp(static_cast<std::int64_t>(text.size()) * kStackPerUnit,
                                        kSmallestStack, kLargestStack);
  matcher->setStackLimit(static_cast<std::int32_t>(stack), status);
  const auto spend = [](const void* context, std::int32_t) -> UBool {
    return static_cast<UBool>(static_cast<MatchBudget*>(const_cast<void*>(context))->left-- > 0);
  };
  matcher->setMatchCallback(spend, &budget, status);

  std::vector<Span> pieces;
  for (const Span& span : spans) {
    std::size_t done = span.begin;
    const auto cut_at = [&](std::size_t end) {
      if (end > done) pieces.push_back({done, end});
      done = std::max(done, end);
    };
    matcher->region(static_cast<std::int64_t>(span.begin), static_cast<std::int64_t>(span.end),
                    status);
    while (matcher->find(status)) {
      cut_at(static_cast<std::size_t>(matcher->start64(status)));
      cut_at(static_cast<std::size_t>(matcher->end64(status)));
    }
    cut_at(span.end);
  }
  if (U_FAILURE(status))
    throw Error(ErrorKind::unsupported,
                fmt::format("the regular expression of the tokenizer gives up on this text: {}",
                            u_errorName(status)));
  return pieces;
}

}  // namespace klein::tokenizer
