#include "klein/models/flux2/model_files.h"

#include <algorithm>
#include <set>
#include <unordered_map>

#include <fmt/format.h>
#include <fmt/ranges.h>

#include "klein/core/error.h"
#include "klein/models/flux2/difference.h"

namespace klein::flux2 {
namespace {

namespace fs = std::filesystem;

PartSource source_from(const Part& part, const weights::WeightFiles& files) {
  PartSource source;
  source.kind = part.kind;
  source.convention = part.convention;
  source.path = files.path;
  source.files.path = files.path;
  source.files.saved_by = files.saved_by;
  for (const auto& tensor : files.tensors)
    if (part.tensors.contains(tensor.name)) source.files.tensors.push_back(tensor);
  const auto where = files.path.string();
  source.renaming = renaming(part, where);
  source.shapes = weights::renamed_shapes(source.renaming, part.tensors, where);
  return source;
}

/// What a part is, without its tensors.
PartSource empty_like(const PartSource& whole) {
  PartSource part;
  part.kind = whole.kind;
  part.convention = whole.convention;
  part.path = whole.path;
  part.prefix = whole.prefix;
  part.difference = whole.difference;
  part.config = whole.config;
  part.files.path = whole.files.path;
  part.files.saved_by = whole.files.saved_by;
  return part;
}

/// Gives `part` the tensors of `whole` that its own names come from.
void keep_needed(PartSource& part, const PartSource& whole) {
  std::set<std::string_view> needed;
  for (const auto& [name, origin] : part.renaming.origins) needed.insert(origin.source);
  for (const auto& tensor : whole.files.tensors)
    if (needed.contains(tensor.name)) part.files.tensors.push_back(tensor);
}

}  // namespace

PartSource PartSource::child(std::string_view name) const {
  auto part = empty_like(*this);
  part.prefix += name;
  const auto& origins = renaming.origins;
  for (auto it = origins.lower_bound(name); it != origins.end() && it->first.starts_with(name);
       ++it) {
    part.renaming.origins.emplace(it->first.substr(name.size()), it->second);
    part.shapes.emplace(it->first.substr(name.size()), shapes.at(it->first));
  }
  keep_needed(part, *this);
  return part;
}

PartSource PartSource::without(
    const std::function<bool(const std::string& name)>& leave_out) const {
  auto part = empty_like(*this);
  for (const auto& [name, origin] : renaming.origins) {
    if (leave_out(name)) continue;
    part.renaming.origins.emplace(name, origin);
    part.shapes.emplace(name, shapes.at(name));
  }
  keep_needed(part, *this);
  return part;
}

void PartSource::advise(io::Advice advice) const noexcept {
  for (const auto& tensor : files.tensors) tensor.advise(advice);
}

std::vector<PartSource> open_parts(const weights::WeightFiles& files) {
  std::vector<PartSource> sources;
  for (const auto& part : find_parts(files.shapes(), files.path.string()))
    sources.push_back(source_from(part, files));
  return sources;
}

PartSource open_part(const fs::path& path, PartKind kind) {
  if (kind != PartKind::vae && holds_difference(path)) return open_difference(path, kind);
  std::error_code error;
  const bool in_folder = fs::is_directory(path, error);
  auto sources = open_parts(in_folder ? weights::WeightFiles::open_folder(path)
                                      : weights::WeightFiles::open(path));
  const auto found = std::ranges::find(sources, kind, &PartSource::kind);
  if (found == sources.end()) {
    std::vector<std::string_view> held;
    for (const auto& source : sources) held.push_back(part_name(source.kind));
    throw Error(ErrorKind::format,
                fmt::format("expected the weights of a {}, got those of a {}: {}", part_name(kind),
                            fmt::join(held, ", a "), path.string()));
  }
  found->path = path;
  if (in_folder && fs::exists(path / "config.json", error)) found->config = path / "config.json";
  return std::move(*found);
}

}  // namespace klein::flux2
