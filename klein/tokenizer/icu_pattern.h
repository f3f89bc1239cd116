#pragma once

#include <string>
#include <string_view>

namespace klein::tokenizer {

/// A regular expression of a tokenizer.json (Oniguruma's dialect) as ICU's engine has to see it.
///
/// Nothing is simplified. `\p{L}`, `\p{N}`, `\p{Nd}` and `\d` are spelled out so that they mean
/// Unicode 16, as in the reference, whatever Unicode version the installed ICU has: ICU's class cut
/// to the age of 16.0, plus what an older ICU does not know yet. `\s`, negation, (?i:...) and
/// look-around mean the same in both and pass through, as does everything else but what is refused.
///
/// Errors   Error(unsupported) for what the two dialects read differently: `^`, `$`, `\w`, `\b`,
///          `\h` and every other letter escape not named above, `}+`, and the flags m and s
/// Source   Oniguruma 6.9.10 in tokenizers 0.23; ICU user guide, Regular Expressions
std::string to_icu_pattern(std::string_view regex);

}  // namespace klein::tokenizer
