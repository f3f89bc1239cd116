#include "klein/models/flux2/model_files.h"

#include <algorithm>
#include <unordered_map>

#include <fmt/format.h>
#include <fmt/ranges.h>

#include "klein/core/error.h"

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

}  // namespace

std::vector<PartSource> open_parts(const weights::WeightFiles& files) {
  std::vector<PartSource> sources;
  for (const auto& part : find_parts(files.shapes(), files.path.string()))
    sources.push_back(source_from(part, files));
  return sources;
}

PartSource open_part(const fs::path& path, PartKind kind) {
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
