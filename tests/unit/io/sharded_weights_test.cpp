#include <doctest/doctest.h>

#include "klein/io/safetensors.h"
#include "unit/io/support.h"

namespace fs = std::filesystem;

namespace klein::io {
namespace {

using test::error_of;
using test::message_of;
using test::TempDir;

constexpr const char* kIndex = "model.safetensors.index.json";

void write_shard(const TempDir& dir, const std::string& name,
                 const std::vector<std::string>& tensors) {
  std::vector<TensorView> views;
  for (const auto& tensor : tensors) views.push_back({tensor, Dtype::uint8, {1}, as_bytes("1")});
  write_safetensors(dir / name, views, {}, Overwrite::replace);
}

void write_index(const TempDir& dir, const std::string& weight_map) {
  dir.file(kIndex, R"({"metadata": {"total_size": 7}, "weight_map": )" + weight_map + '}');
}

std::string open_message(const TempDir& dir) {
  return message_of(dir, [&] { ShardedWeights::open(dir.path(), "model"); });
}

TEST_SUITE("io/sharded_weights") {
  TEST_CASE("one file is a component by itself") {
    const TempDir dir;
    write_shard(dir, "model.safetensors", {"a", "b"});
    const auto weights = ShardedWeights::open(dir.path(), "model");
    CHECK(weights.files().size() == 1);
    CHECK(weights.size() == 2);
    CHECK(weights.bytes() == 2);
    CHECK(weights.path() == dir / "model.safetensors");
    CHECK(weights.find("b").tensor->name == "b");
    CHECK(!weights.find("c"));
  }

  TEST_CASE("an index comes before a single file and leads to its shards") {
    const TempDir dir;
    write_shard(dir, "model.safetensors", {"stale"});
    write_shard(dir, "1.safetensors", {"a", "b"});
    write_shard(dir, "2.safetensors", {"c"});
    write_index(dir, R"({"a": "1.safetensors", "b": "1.safetensors", "c": "2.safetensors"})");
    const auto weights = ShardedWeights::open(dir.path(), "model");
    CHECK(weights.files().size() == 2);
    CHECK(weights.size() == 3);
    CHECK(!weights.find("stale"));
    const auto entry = weights.find("c");
    REQUIRE(entry);
    CHECK(entry.file->path() == dir / "2.safetensors");
    CHECK(entry.file->bytes(*entry.tensor).size() == 1);
    CHECK(weights.path() == dir / kIndex);
  }

  TEST_CASE("a folder with neither says which names were looked for") {
    const TempDir dir;
    write_shard(dir, "model.fp16.safetensors", {"a"});
    CHECK(open_message(dir) ==
          "expected model.safetensors or model.safetensors.index.json, found neither: DIR");
    CHECK(message_of(dir, [&] { ShardedWeights::open(dir / "none", "model"); }) ==
          "expected a folder of weights, found none: DIR/none");
    CHECK(error_of([&] { ShardedWeights::open(dir.path(), "model"); }).kind() ==
          ErrorKind::not_found);
  }

  TEST_CASE("missing shards are all named") {
    const TempDir dir;
    write_shard(dir, "2.safetensors", {"b"});
    write_index(dir, R"({"a": "1.safetensors", "b": "2.safetensors", "c": "3.safetensors"})");
    CHECK(open_message(dir) ==
          "expected the 3 shards that the index names, found none called "
          "1.safetensors, 3.safetensors: DIR");
    CHECK(error_of([&] { ShardedWeights::open(dir.path(), "model"); }).kind() ==
          ErrorKind::not_found);
  }

  TEST_CASE("an index and shards that disagree are refused, every tensor named") {
    const TempDir dir;
    write_shard(dir, "1.safetensors", {"a", "extra", "b"});
    write_shard(dir, "2.safetensors", {"c"});
    write_index(dir, R"({"a": "1.safetensors", "b": "2.safetensors", "c": "2.safetensors",
                         "gone": "1.safetensors"})");
    CHECK(open_message(dir) ==
          "expected an index that agrees with its shards, got `gone`, which 1.safetensors lacks; "
          "no `b` where 1.safetensors holds it; no `extra` where 1.safetensors holds it; "
          "`b`, which 2.safetensors lacks: DIR/model.safetensors.index.json");
  }

  TEST_CASE("an index may not lead out of its folder") {
    const TempDir dir;
    fs::create_directory(dir / "sub");
    write_shard(dir, "sub/1.safetensors", {"a"});
    for (const std::string name : {"../x.safetensors", "/etc/passwd", "sub/1.safetensors", "..", "",
                                   "1.bin", R"(..\\x.safetensors)", R"(1\u0000.safetensors)"}) {
      write_index(dir, R"({"a": ")" + name + "\"}");
      const auto message = open_message(dir);
      CHECK(message.starts_with("expected an index of weights, got \""));
      CHECK(
          message.ends_with("\" instead of the name of a .safetensors file beside it: "
                            "DIR/model.safetensors.index.json"));
    }
  }

  TEST_CASE("a broken index is refused") {
    const TempDir dir;
    const auto message = [&](std::string_view text) {
      dir.file(kIndex, text);
      return open_message(dir);
    };
    CHECK(message("{}") == "DIR/model.safetensors.index.json: `weight_map` is missing");
    CHECK(message(R"({"weight_map": []})") ==
          "DIR/model.safetensors.index.json: `weight_map` has the wrong type: expected an object, "
          "got an array of 0");
    CHECK(message(R"({"weight_map": {"a": 1}})") ==
          "DIR/model.safetensors.index.json: `weight_map.a` has the wrong type: expected a text, "
          "got 1");
    CHECK(message(R"({"weight_map": {}})") ==
          "expected an index of weights, got an empty `weight_map`: "
          "DIR/model.safetensors.index.json");
    CHECK(message("{").starts_with("expected JSON, got an error at line 1, column 2"));
  }

  TEST_CASE("a broken shard keeps its own message") {
    const TempDir dir;
    dir.file("1.safetensors", "short");
    write_index(dir, R"({"a": "1.safetensors"})");
    CHECK(open_message(dir) ==
          "expected a safetensors file, got 5 bytes where its header length "
          "takes 8: DIR/1.safetensors");
  }

  TEST_CASE("an index and shards that are links are read from the blobs of a hub cache") {
    const TempDir dir;
    const auto snapshot = dir / "snapshots/0123/transformer";
    fs::create_directories(snapshot);
    fs::create_directory(dir / "blobs");
    write_shard(dir, "blobs/aa", {"a"});
    dir.file("blobs/bb", R"({"weight_map": {"a": "1.safetensors"}})");
    fs::create_symlink("../../../blobs/aa", snapshot / "1.safetensors");
    fs::create_symlink("../../../blobs/bb", snapshot / kIndex);
    CHECK(ShardedWeights::open(snapshot, "model").size() == 1);
    fs::create_directory_symlink("snapshots/0123/transformer", dir / "link");
    CHECK(ShardedWeights::open(dir / "link", "model").size() == 1);
  }

  TEST_CASE("a shard that is a link may not lead out of the folder of its index") {
    const TempDir dir;
    const auto model = dir / "model";
    fs::create_directory(model);
    write_shard(dir, "outside.safetensors", {"a"});
    write_shard(dir, "model/2.safetensors", {"b"});
    dir.file(std::string("model/") + kIndex,
             R"({"weight_map": {"a": "1.safetensors", "b": "2.safetensors"}})");
    const auto open = [&] { ShardedWeights::open(model, "model"); };
    for (const std::string& target :
         {std::string("../outside.safetensors"), (dir / "outside.safetensors").string()}) {
      fs::create_symlink(target, model / "1.safetensors");
      CHECK(message_of(dir, open) ==
            "expected shards that lie beside their index, got \"1.safetensors\", a link to \"" +
                (target.starts_with("..") ? target : "DIR/outside.safetensors") +
                "\": DIR/model/model.safetensors.index.json");
      CHECK(error_of(open).hint() == "Links may lead to where the index itself really lies");
      fs::remove(model / "1.safetensors");
    }
    write_shard(dir, "model/other", {"a"});
    fs::create_symlink("other", model / "1.safetensors");
    CHECK(ShardedWeights::open(model, "model").size() == 2);
  }

  TEST_CASE("links in the folder are followed, as in a hub cache") {
    const TempDir dir;
    write_shard(dir, "blob", {"a"});
    fs::create_symlink("blob", dir / "model.safetensors");
    CHECK(ShardedWeights::open(dir.path(), "model").size() == 1);
    fs::remove(dir / "blob");
    CHECK(open_message(dir) == "expected a file, found none: DIR/model.safetensors");
  }
}

}  // namespace
}  // namespace klein::io
