#include "klein/cli/flags.h"

#include <charconv>
#include <cmath>
#include <utility>

#include <CLI/CLI.hpp>
#include <fmt/format.h>
#include <fmt/ranges.h>

#include "klein/core/error.h"
#include "klein/io/text.h"

namespace klein::cli {
namespace {

constexpr char kGuard = '\x1f';

[[noreturn]] void refuse(std::string_view what, std::string_view expected, std::string_view got,
                         std::string hint = {}) {
  throw Error(ErrorKind::usage,
              fmt::format("expected {} to be {}, got {}", what, expected, io::in_quotes(got)),
              std::move(hint));
}

/// The whole of `text` as a number, or nothing.
template <typename T>
std::optional<T> whole(std::string_view text) {
  T number{};
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), number);
  if (error != std::errc() || end != text.data() + text.size()) return std::nullopt;
  return number;
}

}  // namespace

bool is_number(std::string_view text) {
  double number = 0.0;
  const auto result = std::from_chars(text.data(), text.data() + text.size(), number);
  return result.ec != std::errc::invalid_argument && result.ptr == text.data() + text.size();
}

std::uint64_t parse_seed(std::string_view text) {
  const auto seed = whole<std::uint64_t>(text);
  if (!seed) refuse("a seed", "a whole number from 0 to 18446744073709551615", text);
  return *seed;
}

int parse_int(std::string_view text, std::string_view what) {
  const auto number = whole<int>(text);
  if (!number) refuse(what, "a whole number", text);
  return *number;
}

double parse_double(std::string_view text, std::string_view what) {
  const auto number = whole<double>(text);
  if (!number) refuse(what, "a number", text);
  return *number;
}

double parse_gigabytes(std::string_view text, std::string_view what) {
  const auto number = whole<double>(text);
  if (!number || !(*number > 0.0) || !std::isfinite(*number))
    refuse(what, "a number of GB above 0", text);
  return *number;
}

Side parse_side(std::string_view text, std::string_view what) {
  if (text == "auto") return {};
  if (text.ends_with('x') || text.ends_with('X')) {
    const auto scale = whole<double>(text.substr(0, text.size() - 1));
    if (scale && *scale > 0.0 && std::isfinite(*scale)) return {.pixels = {}, .scale = scale};
  }
  const auto pixels = whole<int>(text);
  if (!pixels) refuse(what, "a whole number of pixels, a scale such as 2x, or auto", text);
  return {.pixels = pixels, .scale = {}};
}

CLI::Option* add_value(CLI::App& command, const std::string& flag, const char* type,
                       const std::string& help, SetText set) {
  return command
      .add_option_function<std::string>(
          flag, [set = std::move(set)](const std::string& text) { set(unguarded(text)); }, help)
      ->take_last()
      ->type_name(type);
}

CLI::Option* add_file(CLI::App& command, const std::string& flag,
                      std::optional<std::filesystem::path>& target, const std::string& help) {
  return add_value(command, flag, value::kFile, help,
                   [&target](const std::string& text) { target = text; });
}

CLI::Option* add_int(CLI::App& command, const std::string& flag, std::optional<int>& target,
                     const std::string& help) {
  return add_value(command, flag, value::kNumber, help,
                   [&target, flag](const std::string& text) { target = parse_int(text, flag); });
}

CLI::Option* add_choice(CLI::App& command, const std::string& flag,
                        const std::vector<std::string>& words, const std::string& help,
                        std::function<void(std::size_t)> set) {
  const auto choose = [words, flag, set = std::move(set)](const std::string& text) {
    for (std::size_t i = 0; i < words.size(); ++i)
      if (text == words[i]) return set(i);
    refuse(flag, fmt::format("{}", fmt::join(words, " or ")), text);
  };
  return add_value(command, flag, value::kText, help, choose)
      ->type_name(fmt::format("{}", fmt::join(words, "|")));
}

CLI::Option* add_model_flag(CLI::App& command, std::string& model) {
  return add_value(command, "-m,--model", value::kModel,
                   fmt::format("Model: a name of `klein models` or a path [{}]", model),
                   [&model](const std::string& text) { model = text; })
      ->envname("KLEIN_MODEL");
}

void add_source_flags(CLI::App& command, EngineOptions& options) {
  add_value(command, "--base-model", value::kText,
            "Name of the model that this one was made from [what its name tells]",
            [&options](const std::string& text) { options.base_model = text; });
  const auto part = [&](const std::string& flag, std::optional<std::string>& target,
                        const std::string& help) {
    add_value(command, flag, value::kModel, help,
              [&target](const std::string& text) { target = text; });
  };
  part("--transformer", options.transformer, "Transformer in place of the model's own");
  part("--text-encoder", options.text_encoder, "Text encoder in place of the model's own");
  part("--vae", options.vae, "Autoencoder in place of the model's own");
  part("--tokenizer", options.tokenizer, "Tokenizer in place of the model's own");
}

void add_quantize_flags(CLI::App& command, EngineOptions& options) {
  constexpr const char* words = "3|4|5|6|8|fp8|mxfp8|mxfp4|nvfp4";
  auto& o = options;
  add_value(
      command, "-q,--quantize", words, "Pack all weights in so many bits",
      [&o](const std::string& text) {
        const auto target = quant::parse_target(text);
        for (auto* part : {&o.quantize_transformer, &o.quantize_text_encoder, &o.quantize_vae})
          if (!*part) *part = target;
      });
  // Given beside -q these hold for their part, in whatever order they stand.
  for (const auto& [flag, target] : {std::pair{"--quantize-transformer", &o.quantize_transformer},
                                     std::pair{"--quantize-text-encoder", &o.quantize_text_encoder},
                                     std::pair{"--quantize-vae", &o.quantize_vae}})
    add_value(command, flag, words, "The same for this part alone",
              [target = target](const std::string& text) { *target = quant::parse_target(text); });
}

void add_device_flag(CLI::App& command, EngineOptions& options) {
  add_choice(command, "--device", {"auto", "cpu", "gpu"}, "Where to compute [auto]",
             [&options](std::size_t i) {
               options.device = i == 0   ? DeviceChoice::automatic
                                : i == 1 ? DeviceChoice::cpu
                                         : DeviceChoice::gpu;
             });
}

void add_engine_flags(CLI::App& command, EngineOptions& options) {
  add_model_flag(command, options.model);
  add_source_flags(command, options);
  add_quantize_flags(command, options);
  add_choice(command, "--dtype", {"bfloat16", "float32"}, "Numbers to compute with [bfloat16]",
             [&options](std::size_t i) {
               options.precision = i == 0 ? Precision::bfloat16 : Precision::float32;
             });
  add_choice(command, "--precision", {"exact", "fast", "fp8"},
             "A GPU's arithmetic: MLX's operations, kernels for the model, 8-bit products [fast]",
             [&options](std::size_t i) { options.math = static_cast<MathMode>(i); });
  add_device_flag(command, options);
  add_memory_flags(command, options);
}

void add_memory_flags(CLI::App& command, EngineOptions& options) {
  const auto add_gigabytes = [&](const char* flag, std::optional<double>& target,
                                 const char* help) {
    add_value(command, flag, value::kNumber, help,
              [flag, &target](const std::string& text) { target = parse_gigabytes(text, flag); });
  };
  command.add_flag("--low-ram", options.low_ram,
                   "As little memory as possible: parts come and go, decoding in strips");
  add_gigabytes("--memory-budget", options.memory_budget_gb,
                "GB to stay within; what does not fit is streamed from disk [what is free]");
  add_gigabytes("--mlx-cache-limit-gb", options.cache_limit_gb,
                "GB of freed memory that a GPU keeps [MLX's own limit; 1 with the two above]");
}

void add_size_flags(CLI::App& command, GenerateRequest& request, std::optional<double>* width_scale,
                    std::optional<double>* height_scale) {
  const auto add = [&](const char* flag, std::optional<int>& pixels, std::optional<double>* scale) {
    add_value(command, flag, value::kNumber,
              scale ? "Pixels, times the picture's own as 2x, or auto [the picture's, the model's]"
                    : "Pixels, or auto [the model's own size]",
              [flag, &pixels, scale](const std::string& text) {
                const auto side = parse_side(text, flag);
                pixels = side.pixels;
                if (scale)
                  *scale = side.scale;
                else if (side.scale)
                  refuse(flag, "a number of pixels or auto", text,
                         "A scale needs a picture to scale, and this command takes none.");
              });
  };
  add("--width", request.width, width_scale);
  add("--height", request.height, height_scale);
  add_int(command, "--steps", request.steps, "Denoising steps [the model's own]");
}

std::string guarded(std::string text) {
  if (text.starts_with('[') && (text.ends_with(']') || text.ends_with(kGuard))) text += kGuard;
  return text;
}

std::string unguarded(std::string text) {
  if (text.starts_with('[') && text.ends_with(kGuard)) text.pop_back();
  return text;
}

std::vector<std::string> unguarded(const std::vector<std::string>& words) {
  std::vector<std::string> result;
  for (const auto& word : words) result.push_back(unguarded(word));
  return result;
}

std::string stripped(std::string_view text) {
  constexpr std::string_view blanks = " \t\n\v\f\r";
  const auto first = text.find_first_not_of(blanks);
  if (first == std::string_view::npos) return {};
  return std::string(text.substr(first, text.find_last_not_of(blanks) - first + 1));
}

}  // namespace klein::cli
