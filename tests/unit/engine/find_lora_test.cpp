#include "klein/engine/find_lora.h"

#include <cstdlib>

#include <doctest/doctest.h>

#include "unit/engine/support.h"
#include "unit/io/support.h"

namespace klein {
namespace {

namespace fs = std::filesystem;
using io::test::error_of;
using io::test::TempDir;
using test::OfflineCache;
using test::Variable;

TEST_SUITE("engine/find_lora") {
  TEST_CASE("a file that exists is taken before any name") {
    const TempDir folder;
    const auto path = folder.file("a.safetensors", "x");
    CHECK(find_lora(path.string()) == path);
    const Variable home("HOME", folder.path().string());
    CHECK(find_lora("~/a.safetensors") == path);
  }

  TEST_CASE("the library's files have names; the first folder wins, shards are left out") {
    const TempDir first, second;
    fs::create_directories(first / "deep/er");
    fs::create_directories(second / "transformer");
    const auto fox = first.file("deep/er/fox.safetensors", "x");
    second.file("fox.safetensors", "x");
    const auto owl = second.file("owl.safetensors", "x");
    second.file("transformer/0.safetensors", "x");
    second.file("notes.txt", "x");
    const Variable library("LORA_LIBRARY_PATH",
                           ":/none:" + first.path().string() + ":" + second.path().string());
    CHECK(lora_library() == std::map<std::string, fs::path>{{"fox", fox}, {"owl", owl}});
    CHECK(find_lora("fox") == fox);
    const auto error = error_of([] { find_lora("wolf"); });
    CHECK(error.kind() == ErrorKind::not_found);
    CHECK(std::string(error.what()) ==
          "expected a LoRA's file, a name in LORA_LIBRARY_PATH, org/repo or org/repo:FILE, found "
          "none: wolf");
    CHECK(error.hint() == "The library has fox, owl.");
  }

  TEST_CASE("files of equal names in two repositories are two files") {
    const OfflineCache cache;
    const auto ann = cache.add("ann--fox", {"x.safetensors", "adapter_config.json"});
    const auto bob = cache.add("bob--fox", {"x.safetensors", "more/y.safetensors"});
    CHECK(find_lora("ann/fox") == ann / "x.safetensors");
    CHECK(find_lora("bob/fox:x.safetensors") == bob / "x.safetensors");
    CHECK(find_lora("hf:bob/fox/more/y.safetensors") == bob / "more/y.safetensors");
    CHECK(std::string(error_of([] { find_lora("bob/fox"); }).what()) ==
          "expected bob/fox in the cache, since HF_HUB_OFFLINE forbids to ask the hub, found a "
          "part: " +
              cache.folder.path().string());
  }
}

}  // namespace
}  // namespace klein
