#pragma once

#include <string_view>

#include "klein/io/json.h"

namespace klein::io {

inline constexpr int kMaxSize = 1 << 24;

/// Reads a size that a model needs: a whole number from 1 to kMaxSize, more than any model has.
///
/// Errors   Error(format) when it is missing, no whole number or out of range
void require_size(const JsonReader& json, std::string_view key, int& field);

/// Refuses attention whose heads have more than kMaxSize channels in all.
///
/// Errors   Error(shape)
void expect_heads(const JsonReader& json, int heads, int width);

/// Throws Error(unsupported): "config.json: expected `hidden_act` to be silu, got "gelu"".
[[noreturn]] void refuse(const JsonReader& json, std::string_view key, std::string_view expected);

}  // namespace klein::io
