#include "fuzz/support.h"
#include "fuzz/targets.h"
#include "klein/io/safetensors.h"

namespace klein::fuzz {
namespace {

namespace fs = std::filesystem;

/// A folder of shards, and what an index might try to reach from it.
struct Shards {
  Folder folder;
  fs::path model = folder.path() / "model";

  Shards() {
    fs::create_directories(model / "inner.safetensors");
    write("outside.safetensors", {"d"});
    write("model/1.safetensors", {"a", "b"});
    write("model/2.safetensors", {"c"});
    write("model/inner.safetensors/3.safetensors", {"d"});
    fs::create_symlink("../outside.safetensors", model / "out.safetensors");
    fs::create_symlink("loop.safetensors", model / "loop.safetensors");
    fs::create_symlink("nowhere", model / "gone.safetensors");
    fs::create_symlink("..", model / "up.safetensors");
  }

  void write(const char* name, std::initializer_list<const char*> tensors) const {
    std::vector<io::TensorView> views;
    for (const char* tensor : tensors)
      views.push_back({tensor, io::Dtype::uint8, {1}, io::as_bytes("1")});
    io::write_safetensors(folder.path() / name, views);
  }
};

}  // namespace

void index(std::string_view input) {
  static const Shards shards;
  shards.folder.write("model/model.safetensors.index.json", input);
  const auto weights = io::ShardedWeights::open(shards.model, "model");
  for (const auto& file : weights.files())
    expect(fs::canonical(file.path()).parent_path() == fs::canonical(shards.model),
           "shards lie in the folder");
}

}  // namespace klein::fuzz
