#include "klein/engine/find_model.h"

#include <cstdlib>

#include <doctest/doctest.h>

#include "klein/engine/demo_model.h"
#include "unit/engine/support.h"
#include "unit/io/support.h"

namespace klein {
namespace {

namespace fs = std::filesystem;
using io::test::error_of;
using io::test::TempDir;
using test::OfflineCache;
using test::Variable;

const auto kWhole = {"model_index.json",
                     "scheduler/scheduler_config.json",
                     "tokenizer/tokenizer.json",
                     "text_encoder/config.json",
                     "text_encoder/model.safetensors",
                     "transformer/config.json",
                     "transformer/diffusion_pytorch_model.safetensors",
                     "vae/config.json",
                     "vae/diffusion_pytorch_model.safetensors"};

TEST_SUITE("engine/find_model") {
  TEST_CASE("demo is the model that comes with the program") {
    const Variable models("KLEIN_MODELS", KLEIN_TEST_MODELS);
    const auto found = find_model("demo");
    CHECK(found.path == fs::path(KLEIN_TEST_MODELS) / "demo");
    CHECK(found.name == "demo");
    CHECK_FALSE(found.variant.has_value());
  }

  TEST_CASE("the other models that come with it are found by their names too") {
    const TempDir folder;
    const Variable models("KLEIN_MODELS", folder.path().string());
    for (const char* name : {"demo-kv", "demo-base"}) {
      fs::create_directory(folder / name);
      folder.file(std::string(name) + "/model_index.json", "{}");
      CHECK(find_model(name).path == folder / name);
      CHECK(find_model(name).name == name);
      CHECK_FALSE(planned_download(name).has_value());
    }
    const auto error = error_of([] { find_demo_model("demo-x"); });
    CHECK(error.kind() == ErrorKind::not_found);
    CHECK(std::string(error.what())
              .starts_with("expected the model demo-x in one of " + folder.path().string() + ", "));
    CHECK(error.hint() == "Set KLEIN_MODELS to the folder that holds the folder `demo-x`.");
  }

  TEST_CASE("a folder that exists is taken before any name, and its name says nothing") {
    const OfflineCache cache;
    const TempDir folder;
    const auto path = folder / "flux-2-klein-base-4b";
    fs::create_directories(path);
    const auto found = find_model(path.string());
    CHECK(found.path == path);
    CHECK(found.name.empty());
    CHECK_FALSE(found.variant.has_value());

    const Variable home("HOME", folder.path().string());
    CHECK(find_model("~/flux-2-klein-base-4b").path == path);
  }

  TEST_CASE("the name of a file tells what its folder does not") {
    const TempDir folder;
    fs::create_directories(folder / "klein-base-9b-kv");
    const auto found =
        find_model(folder.file("klein-base-9b-kv/flux-2-klein-4b.gguf", "x").string());
    CHECK(found.name == "flux2-klein-4b");
    CHECK(found.variant == flux2::Variant::distilled);
    CHECK_FALSE(find_model(folder.file("model.gguf", "x").string()).variant.has_value());
  }

  TEST_CASE("a name of the registry is found in the cache, where it is whole") {
    const OfflineCache cache;
    const auto path = cache.add("black-forest-labs--FLUX.2-klein-base-4B", kWhole);
    const auto found = find_model("Klein-Base-4B");
    CHECK(found.path == path);
    CHECK(found.name == "flux2-klein-base-4b");
    CHECK(found.repo == "black-forest-labs/FLUX.2-klein-base-4B");
    CHECK(found.variant == flux2::Variant::base);
    CHECK(known_models().at(3).presence == Presence::complete);
    CHECK(known_models().at(3).path == path);

    fs::remove(path / "vae/config.json");
    CHECK(known_models().at(3).presence == Presence::partial);
    CHECK(known_models().at(0).presence == Presence::none);
    CHECK(std::string(error_of([] { find_model("klein-base-4b"); }).what()) ==
          "expected black-forest-labs/FLUX.2-klein-base-4B in the cache, since HF_HUB_OFFLINE "
          "forbids to ask the hub, found a part: " +
              cache.folder.path().string());
    CHECK(find_model("klein-base-4b", {.parts = {"text_encoder", "tokenizer"}}).path == path);
  }

  TEST_CASE("a repository of the hub tells its variant by its own name, or --base-model does") {
    const OfflineCache cache;
    cache.add("ann--FLUX.2-klein-9B-kv-mflux", kWhole);
    CHECK(find_model("ann/FLUX.2-klein-9B-kv-mflux").variant == flux2::Variant::kv);
    CHECK(find_model("ann/FLUX.2-klein-9B-kv-mflux").name == "flux2-klein-9b-kv");
    const auto found = find_model("ann/FLUX.2-klein-9B-kv-mflux", {.base_model = "flux2-base-4B"});
    CHECK(found.variant == flux2::Variant::base);
    CHECK(found.name == "flux2-klein-base-4b");
  }

  TEST_CASE("a part that a model lacks comes from the published model it was made from") {
    const OfflineCache cache;
    const auto path = cache.add(
        "black-forest-labs--FLUX.2-klein-4B",
        {"model_index.json", "vae/config.json", "vae/diffusion_pytorch_model.safetensors"});
    CHECK(find_part({.path = "x.gguf", .name = "flux2-klein-4b"}, "vae") == path / "vae");
    CHECK_THROWS_AS(find_part({.path = "x.gguf", .name = "flux2-klein-4b"}, "text_encoder"), Error);
    CHECK_FALSE(find_part({.path = "x.gguf"}, "vae").has_value());
    CHECK_FALSE(find_part({.path = "demo", .name = "demo"}, "vae").has_value());
  }

  TEST_CASE("where nothing may be downloaded, the cache has to have it") {
    const TempDir folder;
    const Variable cache("HF_HUB_CACHE", folder.path().string());
    CHECK(std::string(error_of([] { find_model("org/x", {.may_download = false}); }).what()) ==
          "expected org/x in the cache, found none: " + folder.path().string());
  }

  TEST_CASE("a name that is none gets those that are near") {
    const auto error = error_of([] { find_model("klein-5b"); });
    CHECK(error.kind() == ErrorKind::not_found);
    CHECK(std::string(error.what()) ==
          "expected a model's name, a folder, a file or org/repo, found none: klein-5b");
    CHECK(error.hint() ==
          "Did you mean klein-4b or klein-9b? The names are demo, demo-kv, demo-base, klein-4b, "
          "klein-9b, klein-9b-kv, klein-base-4b, klein-base-9b.");
    CHECK(std::string(error_of([] { find_model("/none/a"); }).what()) ==
          "expected a model's name, a folder, a file or org/repo, found none: /none/a");
    CHECK(std::string(error_of([] { find_model(""); }).what()) ==
          "expected a model's name, a folder, a file or org/repo, found none: ");
  }

  TEST_CASE("a base model has to be a name of the registry") {
    const auto error = error_of([] { find_model("demo", {.base_model = "dev"}); });
    CHECK(error.kind() == ErrorKind::usage);
    CHECK(std::string(error.what()) ==
          "expected --base-model to be one of flux2-klein-4b, flux2-klein, klein-4b, "
          "flux2-klein-9b, klein-9b, flux2-klein-9b-kv, klein-9b-kv, flux2-klein-base-4b, "
          "flux2-base-4b, klein-base-4b, flux2-klein-base-9b, flux2-base-9b, klein-base-9b, got "
          "\"dev\"");
  }
}

}  // namespace
}  // namespace klein
