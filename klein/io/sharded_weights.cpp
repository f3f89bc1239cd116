#include <algorithm>
#include <set>
#include <system_error>

#include <fmt/format.h>

#include "klein/core/error.h"
#include "klein/io/complaints.h"
#include "klein/io/file.h"
#include "klein/io/json.h"
#include "klein/io/safetensors.h"
#include "klein/io/text.h"

namespace klein::io {

namespace fs = std::filesystem;

namespace {

using WeightMap = std::map<std::string, std::string>;  // tensor -> file name

/// A name of a file in the index's own folder and nothing else.
bool is_plain_name(const std::string& name) {
  return name.ends_with(".safetensors") && name.find('/') == name.npos &&
         name.find('\\') == name.npos && name.find('\0') == name.npos;
}

WeightMap read_weight_map(const fs::path& index) {
  const auto json = parse_json_file(index);
  WeightMap map;
  JsonReader(json, index.string()).require("weight_map", map);
  Complaints complaints;
  if (map.empty()) complaints.add("an empty `weight_map`");
  std::set<std::string> refused;
  for (const auto& [tensor, shard] : map)
    if (!is_plain_name(shard) && refused.insert(shard).second)
      complaints.add(in_quotes(shard) + " instead of the name of a .safetensors file beside it");
  complaints.throw_if_any("an index of weights", index);
  return map;
}

std::set<std::string> shards_of(const WeightMap& map, const fs::path& folder) {
  std::set<std::string> shards;
  for (const auto& [tensor, shard] : map) shards.insert(shard);
  std::vector<std::string> missing;
  for (const auto& shard : shards)
    if (!is_there(folder / shard)) missing.push_back(printable(shard));
  if (!missing.empty())
    throw Error(ErrorKind::not_found,
                fmt::format("expected the {} shards that the index names, found none called {}: {}",
                            shards.size(), fmt::join(missing, ", "), folder.string()),
                "The download may be incomplete");
  return shards;
}

/// A link may lead a shard to where the index really lies, as in a cache of the hub, and nowhere
/// else.
void check_links(const std::set<std::string>& shards, const fs::path& index) {
  std::error_code error;
  const auto folder = index.parent_path();
  const auto home = fs::canonical(folder, error);
  const auto real_home = fs::canonical(index, error).parent_path();
  Complaints complaints;
  for (const auto& shard : shards) {
    const auto place = fs::canonical(folder / shard, error).parent_path();
    if (error || place == home || place == real_home) continue;  // opening it tells of errors
    complaints.add(fmt::format("{}, a link to {}", in_quotes(shard),
                               in_quotes(fs::read_symlink(folder / shard, error).string())));
  }
  complaints.throw_if_any("shards that lie beside their index", index,
                          "Links may lead to where the index itself really lies");
}

/// The index has to tell of every tensor in which shard it is, no more and no less.
void check_agreement(const WeightMap& map, const std::vector<SafetensorsFile>& files,
                     const fs::path& index) {
  Complaints complaints;
  for (const auto& file : files) {
    const std::string shard = file.path().filename().string();
    for (const auto& [tensor, promised] : map)
      if (promised == shard && file.find(tensor) == nullptr)
        complaints.add(fmt::format("`{}`, which {} lacks", printable(tensor), printable(shard)));
    for (const auto& tensor : file.tensors()) {
      const auto found = map.find(tensor.name);
      if (found == map.end() || found->second != shard)
        complaints.add(
            fmt::format("no `{}` where {} holds it", printable(tensor.name), printable(shard)));
    }
  }
  complaints.throw_if_any("an index that agrees with its shards", index);
}

}  // namespace

ShardedWeights ShardedWeights::open(const fs::path& folder, std::string_view stem, Access access) {
  std::error_code ignored;
  if (!fs::is_directory(folder, ignored))
    throw Error(ErrorKind::not_found,
                fmt::format("expected a folder of weights, found none: {}", folder.string()));
  const std::string single = std::string(stem) + ".safetensors";
  const std::string index = single + ".index.json";
  if (!is_there(folder / index)) {
    if (is_there(folder / single)) return open_file(folder / single, access);
    throw Error(ErrorKind::not_found, fmt::format("expected {} or {}, found neither: {}", single,
                                                  index, folder.string()));
  }
  ShardedWeights weights;
  weights.path_ = folder / index;
  // metadata.total_size is not read: real files count tied weights in more than one way.
  const WeightMap map = read_weight_map(weights.path_);
  const auto shards = shards_of(map, folder);
  check_links(shards, weights.path_);
  for (const auto& shard : shards)
    weights.files_.push_back(SafetensorsFile::open(folder / shard, access));
  check_agreement(map, weights.files_, weights.path_);
  return weights;
}

ShardedWeights ShardedWeights::open_file(const fs::path& path, Access access) {
  ShardedWeights weights;
  weights.path_ = path;
  weights.files_.push_back(SafetensorsFile::open(path, access));
  return weights;
}

std::size_t ShardedWeights::size() const noexcept {
  std::size_t count = 0;
  for (const auto& file : files_) count += file.tensors().size();
  return count;
}

std::uint64_t ShardedWeights::bytes() const noexcept {
  std::uint64_t total = 0;
  for (const auto& file : files_)
    for (const auto& tensor : file.tensors()) total += tensor.bytes();
  return total;
}

ShardedWeights::Entry ShardedWeights::find(std::string_view name) const {
  for (const auto& file : files_)
    if (const auto* tensor = file.find(name)) return {&file, tensor};
  return {};
}

}  // namespace klein::io
