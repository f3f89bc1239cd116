#include <doctest/doctest.h>
#include <nlohmann/json.hpp>

#include "unit/cli/support.h"
#include "unit/engine/support.h"
#include "unit/io/support.h"

namespace klein::test {
namespace {

using io::test::TempDir;

TEST_SUITE("cli/commands") {
  TEST_CASE("help and version go to standard output") {
    FakeProgram program;
    program({"--version"});
    CHECK(program.out.str() == "klein " KLEIN_VERSION "\n");
    for (const char* command :
         {"generate", "save", "info", "tokenize", "bench", "models", "completions"}) {
      CAPTURE(command);
      program.out.str("");
      program({"--help"});
      CHECK(program.out.str().find(command) != std::string::npos);
      program.out.str("");
      program({command, "--help"});
      CHECK(program.out.str().find("--help") != std::string::npos);
    }
    CHECK(program.err.str().empty());
  }

  TEST_CASE("save passes on where, how and in which packing") {
    FakeProgram program;
    program({"save", "--model", "x", "--path", "dir", "--format", "bfl", "-q", "4",
             "--quantize-vae", "mxfp8", "--json", "--quiet"});
    REQUIRE(program.saved.size() == 1);
    CHECK(program.saved[0].folder == "dir");
    CHECK(program.saved[0].layout == SaveLayout::bfl);
    CHECK(program.loaded[0].quantize_transformer == quant::Target{quant::Format::affine, 4});
    CHECK(program.loaded[0].quantize_vae == quant::Target{quant::Format::mxfp8, 8});
    const auto json = nlohmann::json::parse(program.out.str());
    CHECK(json["files"] == nlohmann::json::array({"dir/a"}));
    CHECK(json["bytes"] == 1000);
    CHECK(program.err.str().empty());
    program({"save", "--path", "dir"});
    CHECK(program.saved[1].layout == SaveLayout::mflux);
    CHECK(program.err.str().starts_with("dir: 1 file, 1.0 kB, "));
    CHECK(program.error({"save"})->what() == std::string("expected --path, got none"));
  }

  TEST_CASE("models lists the demo models by what their files say, and the names of the registry") {
    const Variable cache("HF_HUB_CACHE", "/nowhere");
    const TempDir folder;
    const Variable models("KLEIN_MODELS", folder.path().string());
    for (const char* name : {"demo", "demo-kv", "demo-base"}) {
      std::filesystem::create_directory(folder / name);
      folder.file(std::string(name) + "/model_index.json", "{}");
    }
    FakeProgram program;
    program({"models", "--json"});
    const auto json = nlohmann::json::parse(program.out.str());
    CHECK(json.size() == 8);
    CHECK(json[0]["name"] == "demo");
    CHECK(json[0]["folder"] == "/models/demo");
    CHECK(json[0]["kind"] == "distilled");
    CHECK(json[0]["default_size"] == 256);
    CHECK(json[0]["default_steps"] == 4);
    CHECK(json[0]["present"] == "complete");
    CHECK(json[1]["name"] == "demo-kv");
    CHECK(json[2]["name"] == "demo-base");
    REQUIRE(program.loaded.size() == 3);
    CHECK(program.loaded[2].model == "demo-base");
    CHECK(json[6]["name"] == "flux2-klein-base-4b");
    CHECK(json[6]["repo"] == "black-forest-labs/FLUX.2-klein-base-4B");
    CHECK(json[6]["aliases"] == std::vector<std::string>{"flux2-base-4b", "klein-base-4b"});
    CHECK(json[6]["kind"] == "base");
    CHECK(json[6]["default_steps"] == 50);
    CHECK(json[6]["default_guidance"] == 4.0);
    CHECK(json[6]["download_bytes"] == 15'980'000'000);
    CHECK(json[6]["present"] == "none");
    CHECK(json[6]["folder"].is_null());

    program.out.str("");
    program({"models"});
    CHECK(program.out.str().find("demo           distilled          -  complete  /models/demo\n") !=
          std::string::npos);
    CHECK(program.out.str().find("demo-base      distilled          -  complete  /models/demo\n") !=
          std::string::npos);
    CHECK(program.out.str().find("klein-9b-kv    kv          34.72 GB  none      "
                                 "black-forest-labs/FLUX.2-klein-9b-kv\n") != std::string::npos);
  }
}

}  // namespace
}  // namespace klein::test
