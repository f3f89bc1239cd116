#include "klein/cli/error_report.h"

#include <string_view>
#include <vector>

#include <CLI/CLI.hpp>
#include <fmt/format.h>

#include "klein/io/text.h"

namespace klein::cli {
namespace {

constexpr std::size_t kMaxMessageBytes = 8192;

/// "klein generate" once that command was recognised, else "klein".
std::string command_line(const CLI::App& app) {
  const auto parsed = app.get_subcommands();
  return parsed.empty() ? "klein" : "klein " + parsed.front()->get_name();
}

Error unknown_word(const CLI::App& app, const std::string& hint) {
  const auto parsed = app.get_subcommands();
  if (parsed.empty()) {
    const auto words = app.remaining();
    const auto word = words.empty() ? std::string() : words.front();
    return {ErrorKind::usage,
            fmt::format("expected {}, got {}",
                        word.starts_with("-") ? "a flag of klein" : "a command of klein",
                        io::in_quotes(word)),
            hint};
  }
  for (const auto& word : parsed.front()->remaining())
    if (word.starts_with("-"))
      return {ErrorKind::usage,
              fmt::format("expected a flag of {}, got {}", command_line(app), io::in_quotes(word)),
              hint};
  const auto words = parsed.front()->remaining();
  return {ErrorKind::usage,
          fmt::format("expected nothing more, got {}",
                      io::in_quotes(words.empty() ? std::string() : words.front())),
          "A text of several words needs quotes around it."};
}

/// The name in front of the colon of CLI11's own message.
std::string flag_in(std::string_view message) {
  return io::printable(message.substr(0, message.find(':')));
}

}  // namespace

int exit_code(ErrorKind kind) {
  switch (kind) {
    case ErrorKind::usage:
      return 2;
    case ErrorKind::not_found:
      return 3;
    case ErrorKind::format:
      return 4;
    case ErrorKind::shape:
      return 5;
    case ErrorKind::unsupported:
      return 6;
    case ErrorKind::io:
      return 7;
    case ErrorKind::memory:
      return 8;
    case ErrorKind::cancelled:
      return 130;
    case ErrorKind::internal:
      break;
  }
  return 70;
}

std::string describe(const Error& error) {
  auto text = fmt::format("klein: error: {}\n", io::printable(error.what(), kMaxMessageBytes));
  if (!error.hint().empty())
    text += fmt::format("hint: {}\n", io::printable(error.hint(), kMaxMessageBytes));
  return text;
}

Error usage_error(const CLI::App& app, const CLI::ParseError& error) {
  const auto hint = fmt::format("Run `{} --help`.", command_line(app));
  const std::string_view message = error.what();
  if (app.get_subcommands().empty()) {
    if (app.remaining_size() > 0) return unknown_word(app, hint);
    return {ErrorKind::usage, "expected a command, got none", hint};
  }
  if (dynamic_cast<const CLI::ExtrasError*>(&error) != nullptr) return unknown_word(app, hint);
  if (dynamic_cast<const CLI::RequiredError*>(&error) != nullptr)
    return {ErrorKind::usage,
            fmt::format("expected {}, got none", message.substr(0, message.find(" is required"))),
            hint};
  if (dynamic_cast<const CLI::ArgumentMismatch*>(&error) != nullptr) {
    const bool too_many = message.find("At Most") != std::string_view::npos ||
                          message.find("at most") != std::string_view::npos;
    const auto flag = flag_in(message);
    return {ErrorKind::usage,
            too_many ? fmt::format("expected {} once, got it several times", flag)
                     : fmt::format("expected a value after {}, got none", flag),
            hint};
  }
  return {ErrorKind::usage, io::printable(message, kMaxMessageBytes), hint};
}

}  // namespace klein::cli
