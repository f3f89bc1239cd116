#include "klein/engine/needed_files.h"

#include <map>

#include <doctest/doctest.h>

#include "unit/io/support.h"

namespace klein {
namespace {

using io::test::error_of;
using Names = std::vector<std::string>;

/// A repository of files that hold what the map says.
class Tree {
 public:
  explicit Tree(std::map<std::string, std::string> files) : files_(std::move(files)) {}

  operator hub::FileTree() const {
    hub::FileTree tree{.where = "org/x", .names = {}, .read = [this](const auto& name) {
                         return files_.at(name);
                       }};
    for (const auto& [name, text] : files_) tree.names.insert(name);
    return tree;
  }

 private:
  std::map<std::string, std::string> files_;
};

std::string index_of(const char* first, const char* second) {
  return std::string(R"({"weight_map": {"a": ")") + first + R"(", "b": ")" + second + R"("}})";
}

const std::map<std::string, std::string> kDiffusers = {
    {"model_index.json", ""},
    {"README.md", ""},
    {"flux-2-klein-9b.safetensors", ""},
    {"scheduler/scheduler_config.json", ""},
    {"tokenizer/tokenizer.json", ""},
    {"tokenizer/merges.txt", ""},
    {"tokenizer/picture.png", ""},
    {"text_encoder/config.json", ""},
    {"text_encoder/generation_config.json", ""},
    {"text_encoder/model.safetensors.index.json", index_of("m-1.safetensors", "m-2.safetensors")},
    {"text_encoder/m-1.safetensors", ""},
    {"text_encoder/m-2.safetensors", ""},
    {"text_encoder/m-3.safetensors", ""},
    {"transformer/config.json", ""},
    {"transformer/diffusion_pytorch_model.safetensors", ""},
    {"transformer/diffusion_pytorch_model.fp16.safetensors", ""},
    {"vae/config.json", ""},
    {"vae/diffusion_pytorch_model.safetensors", ""}};

TEST_SUITE("engine/needed_files") {
  TEST_CASE("of diffusers' layout the configs and what the indices name are needed") {
    CHECK(needed_files(Tree(kDiffusers), {}) ==
          Names{"model_index.json", "scheduler/scheduler_config.json", "text_encoder/config.json",
                "text_encoder/m-1.safetensors", "text_encoder/m-2.safetensors",
                "text_encoder/model.safetensors.index.json", "tokenizer/merges.txt",
                "tokenizer/tokenizer.json", "transformer/config.json",
                "transformer/diffusion_pytorch_model.safetensors", "vae/config.json",
                "vae/diffusion_pytorch_model.safetensors"});
  }

  TEST_CASE("a LoRA instead of weights is needed with the weights that it is added to") {
    auto files = kDiffusers;
    files.erase("transformer/diffusion_pytorch_model.safetensors");
    files.erase("transformer/diffusion_pytorch_model.fp16.safetensors");
    files["transformer/adapter_model.safetensors"] = "";
    files["base/model.safetensors"] = "";
    const auto needed = [&](const char* base) {
      files["transformer/adapter_config.json"] =
          std::string(R"({"base_model_name_or_path": ")") + base + "\"}";
      return needed_files(Tree(files), {"transformer"});
    };
    CHECK(needed("../base") ==
          Names{"base/model.safetensors", "model_index.json", "transformer/adapter_config.json",
                "transformer/adapter_model.safetensors", "transformer/config.json"});
    CHECK(std::string(error_of([&] { needed("../none"); }).what()) ==
          "expected none/*.safetensors in the model, found none: org/x");
    for (const char* base : {"../../demo/transformer", "./", "../transformer"})
      CHECK(std::string(error_of([&] { needed(base); }).what()) ==
            std::string("expected base_model_name_or_path to be a folder of weights beside "
                        "transformer, got \"") +
                base + "\": org/x/transformer/adapter_config.json");
    for (const char* base : {"org/model", "base", "/base", ""})
      CHECK(std::string(error_of([&] { needed(base); }).what()) ==
            std::string("expected base_model_name_or_path to be a path that begins with ./ or "
                        "../, got \"") +
                base + "\": org/x/transformer/adapter_config.json");
  }

  TEST_CASE("one part can be had alone") {
    CHECK(needed_files(Tree(kDiffusers), {"vae"}) ==
          Names{"model_index.json", "vae/config.json", "vae/diffusion_pytorch_model.safetensors"});
  }

  TEST_CASE("mflux's layout has numbered shards, with and without an index, and no configs") {
    const Tree tree(
        {{"tokenizer/tokenizer.json", ""},
         {"transformer/model.safetensors.index.json", index_of("0.safetensors", "1.safetensors")},
         {"transformer/0.safetensors", ""},
         {"transformer/1.safetensors", ""},
         {"text_encoder/0.safetensors", ""},
         {"text_encoder/1.safetensors", ""},
         {"vae/0.safetensors", ""}});
    CHECK(is_in_folders(tree));
    CHECK(needed_files(tree, {}) == Names{"text_encoder/0.safetensors",
                                          "text_encoder/1.safetensors", "tokenizer/tokenizer.json",
                                          "transformer/0.safetensors", "transformer/1.safetensors",
                                          "transformer/model.safetensors.index.json",
                                          "vae/0.safetensors"});
  }

  TEST_CASE("all that is missing is named at once") {
    auto files = kDiffusers;
    files.erase("vae/diffusion_pytorch_model.safetensors");
    files.erase("text_encoder/m-2.safetensors");
    files.erase("tokenizer/tokenizer.json");
    const auto error = error_of([&] { needed_files(Tree(files), {}); });
    CHECK(error.kind() == ErrorKind::not_found);
    CHECK(std::string(error.what()) ==
          "expected text_encoder/m-2.safetensors, tokenizer/tokenizer.json, vae/*.safetensors in "
          "the model, found none: org/x");
  }

  TEST_CASE("half a download of diffusers' layout is not taken for mflux's") {
    auto files = kDiffusers;
    for (const char* name : {"model_index.json", "vae/config.json", "transformer/config.json",
                             "scheduler/scheduler_config.json", "text_encoder/config.json"})
      files.erase(name);
    CHECK(std::string(error_of([&] { needed_files(Tree(files), {}); }).what()) ==
          "expected model_index.json, scheduler/scheduler_config.json, text_encoder/config.json, "
          "transformer/config.json, vae/config.json in the model, found none: org/x");
  }

  TEST_CASE("an index names files beside it and nothing else") {
    const std::string where = "org/x/text_encoder/model.safetensors.index.json";
    const std::pair<std::string, std::string> table[] = {
        {"{}", where + ": `weight_map` is missing"},
        {R"({"weight_map": {}})", "expected an index of weights, got an empty one: " + where},
        {index_of("a.safetensors", "../b.safetensors"),
         "expected the name of a .safetensors file beside the index, got \"../b.safetensors\": " +
             where},
        {index_of("a.safetensors", "b.bin"),
         "expected the name of a .safetensors file beside the index, got \"b.bin\": " + where}};
    for (const auto& [text, message] : table) {
      auto files = kDiffusers;
      files["text_encoder/model.safetensors.index.json"] = text;
      const auto error = error_of([&] { needed_files(Tree(files), {}); });
      CHECK(error.kind() == ErrorKind::format);
      CHECK(std::string(error.what()) == message);
    }
  }

  TEST_CASE("single files are those beside the folders") {
    CHECK(single_files(Tree(
              {{"a.gguf", ""}, {"b.safetensors", ""}, {"c.txt", ""}, {"vae/d.safetensors", ""}})) ==
          Names{"a.gguf", "b.safetensors"});
    CHECK_FALSE(is_in_folders(Tree({{"a.gguf", ""}, {"tokenizer/tokenizer.json", ""}})));
  }
}

}  // namespace
}  // namespace klein
