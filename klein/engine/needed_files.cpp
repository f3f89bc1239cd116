#include "klein/engine/needed_files.h"

#include <algorithm>
#include <cctype>
#include <filesystem>
#include <iterator>
#include <map>
#include <set>

#include <fmt/format.h>
#include <fmt/ranges.h>

#include "klein/core/error.h"
#include "klein/hub/names.h"
#include "klein/io/json.h"
#include "klein/io/text.h"
#include "klein/models/flux2/difference.h"
#include "klein/weights/lora_config.h"

namespace klein {
namespace {

constexpr const char* kIndex = "model_index.json";
constexpr const char* kTokenizer = "tokenizer/tokenizer.json";
constexpr std::size_t kListed = 10;

std::string config_in(const std::string& folder) {
  return folder + '/' + weights::kLoraConfigFile;
}

bool has_weights(const std::string& part) {
  return part == "text_encoder" || part == "transformer" || part == "vae";
}

bool is_numbered(const std::string& stem) {
  return !stem.empty() &&
         std::ranges::all_of(stem, [](unsigned char c) { return std::isdigit(c) != 0; });
}

/// Whether files are in diffusers' layout, even where model_index.json did not come yet: mflux
/// numbers its shards, and has no other names for weights.
bool is_diffusers(const hub::FileTree& tree) {
  return tree.names.contains(kIndex) ||
         std::ranges::any_of(tree.names, [](const std::string& name) {
           const auto slash = name.find('/');
           return slash != name.npos && has_weights(name.substr(0, slash)) &&
                  name.ends_with(".safetensors") &&
                  !is_numbered(name.substr(slash + 1, name.find('.') - slash - 1));
         });
}

/// Collects what is needed of one tree, and what of it is not there.
class Needs {
 public:
  explicit Needs(const hub::FileTree& tree) : tree_(tree) {}

  void require(const std::string& name) {
    if (tree_.names.contains(name))
      needed_.insert(name);
    else
      missing_.insert(name);
  }

  /// The files directly in a folder that end in one of `endings`.
  void take(const std::string& folder, std::initializer_list<const char*> endings) {
    for (const auto& name : names_in(folder))
      if (std::ranges::any_of(endings, [&](const char* end) { return name.ends_with(end); }))
        needed_.insert(folder + '/' + name);
  }

  void require_weights(const std::string& folder) {
    // The layouts' own names, in the order in which the loader looks for them.
    for (const char* stem : {"diffusion_pytorch_model", "model"}) {
      const auto file = fmt::format("{}/{}.safetensors", folder, stem);
      if (tree_.names.contains(file + ".index.json"))
        return require_shards(folder, file + ".index.json");
      if (tree_.names.contains(file)) return require(file);
    }
    // mflux: 0.safetensors, 1.safetensors, ...; its older versions wrote no index.
    std::vector<std::string> numbered;
    for (const auto& name : names_in(folder))
      if (name.ends_with(".safetensors") && is_numbered(name.substr(0, name.find('.'))))
        numbered.push_back(folder + '/' + name);
    if (numbered.empty() && tree_.names.contains(config_in(folder)))
      return require_difference(folder);
    if (numbered.empty()) missing_.insert(folder + "/*.safetensors");
    for (const auto& name : numbered) needed_.insert(name);
  }

  std::vector<std::string> result() const {
    if (missing_.empty()) return {needed_.begin(), needed_.end()};
    std::vector<std::string> listed;
    std::ranges::copy_n(missing_.begin(),
                        static_cast<std::ptrdiff_t>(std::min(missing_.size(), kListed)),
                        std::back_inserter(listed));
    const auto more = missing_.size() > kListed
                          ? fmt::format(" and {} more", missing_.size() - kListed)
                          : std::string();
    throw Error(ErrorKind::not_found,
                fmt::format("expected {}{} in the model, found none: {}", fmt::join(listed, ", "),
                            more, tree_.where),
                "It must be a FLUX.2 Klein checkpoint in the layout of diffusers or of mflux.");
  }

 private:
  std::vector<std::string> names_in(const std::string& folder) const {
    std::vector<std::string> names;
    const auto prefix = folder + '/';
    for (auto it = tree_.names.lower_bound(prefix);
         it != tree_.names.end() && it->starts_with(prefix); ++it)
      if (it->find('/', prefix.size()) == it->npos) names.push_back(it->substr(prefix.size()));
    return names;
  }

  void require_shards(const std::string& folder, const std::string& index) {
    needed_.insert(index);
    const auto where = tree_.where + '/' + index;
    const auto json = io::parse_json(tree_.read(index), where);
    std::map<std::string, std::string> shards;
    io::JsonReader(json, where).require("weight_map", shards);
    if (shards.empty())
      throw Error(ErrorKind::format,
                  fmt::format("expected an index of weights, got an empty one: {}", where));
    for (const auto& [tensor, shard] : shards) {
      if (!shard.ends_with(".safetensors") || shard.find('/') != shard.npos)
        throw Error(ErrorKind::format,
                    fmt::format("expected the name of a .safetensors file beside the index, got "
                                "{}: {}",
                                io::in_quotes(shard), where));
      require(folder + '/' + shard);
    }
  }

  /// A LoRA, and the weights that it is added to: those of another folder of the same tree.
  void require_difference(const std::string& folder) {
    const auto config = config_in(folder);
    require(config);
    require(folder + "/adapter_model.safetensors");
    const auto where = tree_.where + '/' + config;
    const auto json = io::parse_json(tree_.read(config), where);
    const auto name = flux2::base_path_in({json, where});
    const auto base = (std::filesystem::path(folder) / name).lexically_normal().generic_string();
    if (!hub::is_inside(base) || tree_.names.contains(config_in(base)))
      throw Error(ErrorKind::unsupported,
                  fmt::format("expected base_model_name_or_path to be a folder of weights beside "
                              "{}, got {}: {}",
                              folder, io::in_quotes(name), where));
    require_weights(base);
  }

  const hub::FileTree& tree_;
  std::set<std::string> needed_, missing_;
};

}  // namespace

bool is_in_folders(const hub::FileTree& tree) {
  return tree.names.contains(kIndex) ||
         std::ranges::any_of(tree.names, [](const std::string& name) {
           return has_weights(name.substr(0, name.find('/'))) && name.ends_with(".safetensors");
         });
}

std::vector<std::string> needed_files(const hub::FileTree& tree,
                                      const std::vector<std::string>& parts) {
  Needs needs(tree);
  const bool has_configs = is_diffusers(tree);
  if (has_configs) needs.require(kIndex);
  for (const std::string part : kModelParts) {
    if (!parts.empty() && std::ranges::find(parts, part) == parts.end()) continue;
    if (part == "tokenizer") {
      needs.require(kTokenizer);
      needs.take(part, {".json", ".txt", ".jinja"});
    } else if (has_weights(part)) {
      if (has_configs || tree.names.contains(part + "/config.json"))
        needs.require(part + "/config.json");
      needs.require_weights(part);
    } else {
      if (has_configs) needs.require("scheduler/scheduler_config.json");
      needs.take(part, {".json"});
    }
  }
  return needs.result();
}

std::vector<std::string> single_files(const hub::FileTree& tree) {
  std::vector<std::string> names;
  for (const auto& name : tree.names)
    if (name.find('/') == name.npos && (name.ends_with(".safetensors") || name.ends_with(".gguf")))
      names.push_back(name);
  return names;
}

}  // namespace klein
