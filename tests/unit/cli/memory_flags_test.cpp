#include <fstream>
#include <vector>

#include <doctest/doctest.h>
#include <fmt/format.h>
#include <nlohmann/json.hpp>

#include "unit/cli/support.h"

namespace klein::cli {
namespace {

using test::FakeProgram;
using test::WorkingFolder;

std::vector<NextRequest> what_comes_next(const std::vector<std::string>& arguments) {
  FakeProgram program;
  program(arguments);
  std::vector<NextRequest> next;
  for (const auto& request : program.requests) next.push_back(request.next);
  return next;
}

TEST_SUITE("cli/memory_flags") {
  TEST_CASE("the flags reach the model") {
    const WorkingFolder folder;
    FakeProgram program;
    program(
        {"generate", "x", "--low-ram", "--memory-budget", "7.5", "--mlx-cache-limit-gb", "0.5"});
    CHECK(program.loaded.at(0).low_ram);
    CHECK(program.loaded.at(0).memory_budget_gb == 7.5);
    CHECK(program.loaded.at(0).cache_limit_gb == 0.5);
  }

  TEST_CASE("without them the model decides") {
    const WorkingFolder folder;
    FakeProgram program;
    program({"generate", "x"});
    CHECK_FALSE(program.loaded.at(0).low_ram);
    CHECK_FALSE(program.loaded.at(0).memory_budget_gb.has_value());
    CHECK_FALSE(program.loaded.at(0).cache_limit_gb.has_value());
  }

  TEST_CASE("an amount of memory is a number above 0") {
    const WorkingFolder folder;
    for (const char* text : {"0", "-2", "nan", "inf", "8GB"}) {
      FakeProgram program;
      CHECK_THROWS_WITH_AS(
          program({"generate", "x", std::string("--memory-budget=") + text}),
          fmt::format("expected --memory-budget to be a number of GB above 0, got \"{}\"", text)
              .c_str(),
          Error);
      CHECK(program.loaded.empty());
    }
  }

  TEST_CASE("the model learns whether the same prompt, any or nothing follows") {
    const WorkingFolder folder;
    using enum NextRequest;
    CHECK(what_comes_next({"generate", "x"}) == std::vector{none});
    CHECK(what_comes_next({"generate", "x", "--seed", "1", "2", "3"}) ==
          std::vector{same_prompts, same_prompts, none});
    std::ofstream("prompt.txt") << "x";
    CHECK(what_comes_next({"generate", "--prompt-file", "prompt.txt", "--seed", "1", "2"}) ==
          std::vector{any, none});
  }

  TEST_CASE("an unusual plan is shown once, and stands in the report") {
    const WorkingFolder folder;
    FakeProgram program;
    program.memory = {.plan = "expected peak 5.9 GB of 8.0 GB",
                      .is_notable = true,
                      .expected_peak_bytes = 5'900'000'000,
                      .budget_bytes = 8'000'000'000,
                      .streamed_bytes = 2'000'000'000};
    program({"generate", "x", "--seed", "1", "2", "--json"});
    const auto shown = program.err.str();
    const auto first = shown.find("memory: expected peak 5.9 GB of 8.0 GB\n");
    CHECK(first != std::string::npos);
    CHECK(shown.find("memory:", first + 1) == std::string::npos);
    const auto report = nlohmann::json::parse(program.out.str());
    CHECK(report["memory"] == nlohmann::json{{"plan", "expected peak 5.9 GB of 8.0 GB"},
                                             {"expected_peak_bytes", 5'900'000'000},
                                             {"budget_bytes", 8'000'000'000},
                                             {"streamed_bytes", 2'000'000'000}});
  }

  TEST_CASE("a usual plan is not shown") {
    const WorkingFolder folder;
    FakeProgram program;
    program.memory.plan = "expected peak 5.9 GB of 80.0 GB";
    program({"generate", "x"});
    CHECK(program.err.str().find("memory:") == std::string::npos);
  }
}

}  // namespace
}  // namespace klein::cli
