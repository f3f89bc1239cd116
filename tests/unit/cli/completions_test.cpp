#include <doctest/doctest.h>

#include "unit/cli/support.h"

namespace klein::test {
namespace {

std::string script(const char* shell) {
  FakeProgram program;
  program({"completions", shell});
  return program.out.str();
}

bool holds(const std::string& text, const char* part) {
  return text.find(part) != std::string::npos;
}

TEST_SUITE("cli/completions") {
  TEST_CASE("bash knows commands, flags and values") {
    const auto bash = script("bash");
    CHECK(holds(bash,
                "_klein_reply -W 'generate edit inpaint tokenize bench save info models lora "
                "completions --version -h --help'"));
    CHECK(holds(bash, "generate:--dtype) _klein_reply -W 'bfloat16 float32'; return ;;"));
    CHECK(holds(bash, "generate:--output) _klein_reply -f; return ;;"));
    CHECK(
        holds(bash,
              "bench:-m) _klein_reply -f -W 'demo demo-kv demo-base klein-4b klein-9b klein-9b-kv "
              "klein-base-4b klein-base-9b'; return ;;"));
    CHECK(holds(bash, "completions) _klein_reply -W 'bash zsh fish -h --help' ;;"));
    CHECK_FALSE(holds(bash, "generate:--quiet"));  // it has no value
  }

  TEST_CASE("zsh gets one argument line a flag, with its help") {
    const auto zsh = script("zsh");
    CHECK(zsh.starts_with("#compdef klein\n"));
    CHECK(holds(zsh, "'--dtype[Numbers to compute with \\[bfloat16\\]]:value:(bfloat16 float32)'"));
    CHECK(holds(zsh, "'*--seed["));
    CHECK(holds(zsh, "'--quiet[No progress]'"));
  }

  TEST_CASE("fish gets one line a flag") {
    const auto fish = script("fish");
    CHECK(holds(fish,
                "complete -c klein -n '__fish_seen_subcommand_from generate' -l dtype -x -a "
                "'bfloat16 float32'"));
    CHECK(holds(fish,
                "-s m -l model -r -F -a 'demo demo-kv demo-base klein-4b klein-9b klein-9b-kv "
                "klein-base-4b "
                "klein-base-9b'"));
    CHECK(holds(
        fish, "complete -c klein -n '__fish_seen_subcommand_from completions' -a 'bash zsh fish'"));
  }
}

}  // namespace
}  // namespace klein::test
