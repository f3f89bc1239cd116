#include "klein/cli/error_report.h"

#include <utility>

#include <doctest/doctest.h>

#include "unit/cli/support.h"

namespace klein::cli {
namespace {

TEST_SUITE("cli/error_report") {
  TEST_CASE("every kind of error has the contract's status") {
    const std::pair<ErrorKind, int> table[] = {
        {ErrorKind::usage, 2},  {ErrorKind::not_found, 3},   {ErrorKind::format, 4},
        {ErrorKind::shape, 5},  {ErrorKind::unsupported, 6}, {ErrorKind::io, 7},
        {ErrorKind::memory, 8}, {ErrorKind::internal, 70},   {ErrorKind::cancelled, 130}};
    for (const auto& [kind, status] : table) CHECK(exit_code(kind) == status);
  }

  TEST_CASE("message and hint are one line each") {
    CHECK(describe(Error(ErrorKind::io, "cannot write: x.png")) ==
          "klein: error: cannot write: x.png\n");
    CHECK(describe(Error(ErrorKind::io, "cannot write: x.png", "Free some space.")) ==
          "klein: error: cannot write: x.png\nhint: Free some space.\n");
  }

  TEST_CASE("control characters never reach the terminal") {
    CHECK(describe(Error(ErrorKind::usage, "got \x1b[2J\r\na\tb\x7f", "see \xff\x07")) ==
          "klein: error: got \\x1b[2J\\x0d\\na\\tb\\x7f\nhint: see \\xff\\x07\n");
  }

  TEST_CASE("words that are no command or flag are named") {
    const auto message = [](std::vector<std::string> arguments) {
      test::FakeProgram program;
      const auto error = program.error(arguments);
      REQUIRE(error);
      CHECK(error->kind() == ErrorKind::usage);
      return std::string(error->what()) + " | " + error->hint();
    };
    CHECK(message({}) == "expected a command, got none | Run `klein --help`.");
    CHECK(message({"paint", "x"}) ==
          "expected a command of klein, got \"paint\" | Run `klein --help`.");
    CHECK(message({"--quiet"}) ==
          "expected a flag of klein, got \"--quiet\" | Run `klein --help`.");
    CHECK(message({"bench", "--foo"}) ==
          "expected a flag of klein bench, got \"--foo\" | Run `klein bench --help`.");
    CHECK(message({"models", "all"}) ==
          "expected nothing more, got \"all\" | A text of several words needs quotes around it.");
    CHECK(message({"completions"}) == "expected SHELL, got none | Run `klein completions --help`.");
    CHECK(message({"completions", "tcsh"}) ==
          "expected SHELL to be bash or zsh or fish, got \"tcsh\" | ");
  }
}

}  // namespace
}  // namespace klein::cli
