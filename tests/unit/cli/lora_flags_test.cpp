#include "klein/cli/lora_flags.h"

#include <doctest/doctest.h>

#include "unit/cli/support.h"

namespace klein::test {
namespace {

using Strings = std::vector<std::string>;
using Pairs = std::vector<std::pair<std::string, double>>;

Pairs loras(const Strings& flags, Strings* warnings = nullptr) {
  FakeProgram program;
  Strings arguments = {"generate", "x", "--output", "x.png", "--quiet"};
  arguments.insert(arguments.end(), flags.begin(), flags.end());
  program(arguments);
  Pairs result;
  CHECK(program.loaded.at(0).loras.empty());
  for (const auto& choice : program.requests.at(0).loras)
    result.emplace_back(choice.name, choice.scale);
  if (warnings != nullptr) warnings->push_back(program.err.str());
  return result;
}

std::string refusal(const Strings& flags) {
  FakeProgram program;
  Strings arguments = {"generate", "x"};
  arguments.insert(arguments.end(), flags.begin(), flags.end());
  const auto error = program.error(arguments);
  REQUIRE(error.has_value());
  CHECK(error->kind() == ErrorKind::usage);
  return error->what();
}

TEST_SUITE("cli/lora_flags") {
  TEST_CASE("--lora takes a name and a scale, any number of times") {
    const WorkingFolder folder;
    CHECK(loras({}) == Pairs{});
    CHECK(loras({"--lora", "a"}) == Pairs{{"a", 1.0}});
    CHECK(loras({"--lora", "a", "0.5", "--lora", "b", "--lora", "c:d", "-2"}) ==
          Pairs{{"a", 0.5}, {"b", 1.0}, {"c:d", -2.0}});
    CHECK(loras({"--lora=a", "--seed", "1"}) == Pairs{{"a", 1.0}});
    CHECK(loras({"--lora", "[a,b]", "2"}) == Pairs{{"[a,b]", 2.0}});
  }

  TEST_CASE("a prompt behind --lora stays the prompt") {
    const WorkingFolder folder;
    FakeProgram program;
    program({"generate", "--lora", "a", "0.5", "a red apple", "--lora", "b"});
    CHECK(program.requests.at(0).prompt == "a red apple");
    CHECK(program.requests.at(0).loras.size() == 2);
    CHECK(program.requests.at(0).loras.at(0).scale == 0.5);
  }

  TEST_CASE("--lora with wrong words is refused") {
    CHECK(refusal({"--lora", "a", "strong"}) ==
          "expected a LoRA's scale to be a number, got \"strong\"");
    CHECK(refusal({"--lora", "a", "nan"}) == "expected a LoRA's scale to be a number, got \"nan\"");
    CHECK(refusal({"--lora", "a", "1", "2"}) ==
          "expected a LoRA and its scale behind --lora, got \"1\" and \"2\"");
    CHECK(refusal({"--lora", "a", "--lora-paths", "b"}) ==
          "expected --lora alone, got --lora-paths or --lora-scales beside it");
    CHECK(refusal({"--lora", "a", "--lora-scales=1"}) ==
          "expected --lora alone, got --lora-paths or --lora-scales beside it");
  }

  TEST_CASE("mflux's two flags pair up; missing scales are 1, superfluous ones are left out") {
    const WorkingFolder folder;
    CHECK(loras({"--lora-paths", "a", "b"}) == Pairs{{"a", 1.0}, {"b", 1.0}});
    CHECK(loras({"--lora-paths", "a", "b", "--lora-scales", "0.5", "2"}) ==
          Pairs{{"a", 0.5}, {"b", 2.0}});
    Strings warnings;
    CHECK(loras({"--lora-paths", "a", "b", "--lora-scales", "0.5"}, &warnings) ==
          Pairs{{"a", 0.5}, {"b", 1.0}});
    CHECK(loras({"--lora-paths", "a", "--lora-scales", "0.5", "2"}, &warnings) ==
          Pairs{{"a", 0.5}});
    CHECK(warnings.at(0).find("warning: 1 --lora-scales for 2 LoRAs, taking 1 for the others\n") !=
          std::string::npos);
    CHECK(warnings.at(1).find("warning: 2 --lora-scales for 1 LoRAs, leaving out the last 1\n") !=
          std::string::npos);
  }

  TEST_CASE("bench takes LoRAs too") {
    FakeProgram program;
    program({"bench", "--lora", "a", "0.5"});
    CHECK(program.requests.at(0).loras.at(0).scale == 0.5);
  }

  TEST_CASE("--merge-loras gives them to the weights, and so does saving") {
    const WorkingFolder folder;
    for (const Strings& command :
         {Strings{"generate", "x", "--merge-loras"}, Strings{"bench", "--merge-loras"},
          Strings{"save", "--path", "y"}}) {
      FakeProgram program;
      auto arguments = command;
      arguments.insert(arguments.end(), {"--lora", "a", "0.5", "--quiet"});
      program(arguments);
      REQUIRE(program.loaded.at(0).loras.size() == 1);
      CHECK(program.loaded.at(0).loras.at(0).scale == 0.5);
      for (const auto& request : program.requests) CHECK(request.loras.empty());
    }
    FakeProgram program;
    program({"generate", "x", "--merge-loras"});
    CHECK(program.err.str().find("warning: --merge-loras has no effect without --lora\n") !=
          std::string::npos);
  }
}

}  // namespace
}  // namespace klein::test
