#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <functional>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "klein/engine/engine.h"

namespace CLI {
class App;
class Option;
}  // namespace CLI

namespace klein::cli {

/// What a flag's value is; completions offer files, folders or the words themselves for it.
namespace value {
inline constexpr const char* kText = "TEXT";
inline constexpr const char* kNumber = "N";
inline constexpr const char* kFile = "FILE";
inline constexpr const char* kModel = "NAME|DIR|FILE|org/repo";
}  // namespace value

/// Whether a text looks like a number, in range or not: "7", "-3", "1e5", "nan".
bool is_number(std::string_view text);

/// A whole number of at most 64 bits, or a decimal number.
///
/// Errors   Error(usage) "expected `what` ..., got "text"" when the text is anything else
std::uint64_t parse_seed(std::string_view text);
int parse_int(std::string_view text, std::string_view what);
double parse_double(std::string_view text, std::string_view what);

/// An amount of memory in GB.
///
/// Errors   Error(usage) unless it is a number above 0
double parse_gigabytes(std::string_view text, std::string_view what);

/// A side of a picture: pixels, or times the side of a picture that was given ("1.5x", "auto" being
/// the model's or the picture's own).
struct Side {
  std::optional<int> pixels;
  std::optional<double> scale;
};

/// Errors   Error(usage) for anything else
Side parse_side(std::string_view text, std::string_view what);

using SetText = std::function<void(const std::string&)>;

/// A flag with one value; when it is given twice the last one holds.
CLI::Option* add_value(CLI::App& command, const std::string& flag, const char* type,
                       const std::string& help, SetText set);

/// The same for a file.
CLI::Option* add_file(CLI::App& command, const std::string& flag,
                      std::optional<std::filesystem::path>& target, const std::string& help);

CLI::Option* add_int(CLI::App& command, const std::string& flag, std::optional<int>& target,
                     const std::string& help);

/// A flag whose value is one of a few words; `set` gets the index.
CLI::Option* add_choice(CLI::App& command, const std::string& flag,
                        const std::vector<std::string>& words, const std::string& help,
                        std::function<void(std::size_t)> set);

/// -m, --model, --base-model, the flags that replace parts, -q and its kin, --dtype, --device and
/// those of add_memory_flags.
void add_engine_flags(CLI::App& command, EngineOptions& options);

/// --base-model and the flags that replace parts.
void add_source_flags(CLI::App& command, EngineOptions& options);

/// -q, --quantize and its kin for the parts.
void add_quantize_flags(CLI::App& command, EngineOptions& options);

/// --device.
void add_device_flag(CLI::App& command, EngineOptions& options);

/// --low-ram, --memory-budget and --mlx-cache-limit-gb.
void add_memory_flags(CLI::App& command, EngineOptions& options);

/// -m, --model alone: $KLEIN_MODEL where it is not given, else what `model` holds.
CLI::Option* add_model_flag(CLI::App& command, std::string& model);

/// --width, --height and --steps. Scales are refused where there is no place for them.
void add_size_flags(CLI::App& command, GenerateRequest& request,
                    std::optional<double>* width_scale = nullptr,
                    std::optional<double>* height_scale = nullptr);

/// CLI11 takes a value in brackets apart, "[a,b]", where a flag has a list of them. A text that was
/// guarded before the parsing is left whole; unguarded() then gives it back as it was.
std::string guarded(std::string text);
std::string unguarded(std::string text);

std::vector<std::string> unguarded(const std::vector<std::string>& words);

/// A text without the blanks and line breaks around it.
std::string stripped(std::string_view text);

}  // namespace klein::cli
