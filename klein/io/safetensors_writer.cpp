#include <algorithm>
#include <tuple>
#include <utility>

#include <fmt/format.h>
#include <nlohmann/json.hpp>

#include "klein/core/error.h"
#include "klein/io/safetensors.h"
#include "klein/io/text.h"

namespace klein::io {

namespace {

constexpr std::size_t kAlignment = 8;

/// Names and shapes of what is about to be written.
void check(const std::vector<TensorView>& tensors, const std::filesystem::path& path) {
  for (const auto& tensor : tensors) {
    std::uint64_t bytes = dtype_bytes(tensor.dtype);
    bool possible = true;
    for (const auto side : tensor.shape)
      possible = possible && side >= 0 &&
                 !__builtin_mul_overflow(bytes, static_cast<std::uint64_t>(side), &bytes);
    if (!possible || bytes != tensor.data.size())
      throw Error(ErrorKind::shape,
                  fmt::format("expected the bytes of {} [{}] for `{}`, got {}: {}",
                              dtype_name(tensor.dtype), fmt::join(tensor.shape, ", "),
                              printable(tensor.name), tensor.data.size(), path.string()));
    if (tensor.name == "__metadata__")
      throw Error(ErrorKind::usage, fmt::format("expected the name of a tensor, got the reserved "
                                                "`__metadata__`: {}",
                                                path.string()));
  }
  std::vector<std::string_view> names;
  for (const auto& tensor : tensors) names.push_back(tensor.name);
  std::sort(names.begin(), names.end());
  const auto twice = std::adjacent_find(names.begin(), names.end());
  if (twice != names.end())
    throw Error(ErrorKind::usage, fmt::format("expected every tensor once, got `{}` twice: {}",
                                              printable(*twice), path.string()));
}

std::string json_text(const std::string& text, const std::filesystem::path& path) {
  try {
    return nlohmann::json(text).dump();
  } catch (const nlohmann::json::exception&) {
    throw Error(ErrorKind::usage, fmt::format("expected a name or text in UTF-8, got {}: {}",
                                              in_quotes(text), path.string()));
  }
}

std::string header_of(const std::vector<TensorView>& tensors,
                      const std::map<std::string, std::string>& metadata,
                      const std::filesystem::path& path) {
  std::vector<std::string> entries;
  if (!metadata.empty()) {
    std::vector<std::string> pairs;
    for (const auto& [key, value] : metadata)
      pairs.push_back(json_text(key, path) + ':' + json_text(value, path));
    entries.push_back(fmt::format(R"("__metadata__":{{{}}})", fmt::join(pairs, ",")));
  }
  std::uint64_t offset = 0;
  for (const auto& tensor : tensors) {
    const std::uint64_t end = offset + tensor.data.size();
    entries.push_back(fmt::format(R"({}:{{"dtype":"{}","shape":[{}],"data_offsets":[{},{}]}})",
                                  json_text(tensor.name, path), dtype_name(tensor.dtype),
                                  fmt::join(tensor.shape, ","), offset, end));
    offset = end;
  }
  std::string header = fmt::format("{{{}}}", fmt::join(entries, ","));
  header.resize((header.size() + kAlignment - 1) / kAlignment * kAlignment, ' ');
  return header;
}

}  // namespace

std::filesystem::path write_safetensors(const std::filesystem::path& path,
                                        std::vector<TensorView> tensors,
                                        const std::map<std::string, std::string>& metadata,
                                        Overwrite overwrite) {
  check(tensors, path);
  std::sort(tensors.begin(), tensors.end(), [](const TensorView& a, const TensorView& b) {
    return std::tie(b.dtype, a.name) < std::tie(a.dtype, b.name);
  });
  const std::string header = header_of(tensors, metadata, path);
  std::string length(8, '\0');
  for (std::size_t i = 0; i < length.size(); ++i)
    length[i] = static_cast<char>(std::uint64_t{header.size()} >> (8 * i) & 0xff);

  AtomicFile file(path, overwrite);
  file.write(length + header);
  for (const auto& tensor : tensors) file.write(tensor.data);
  return file.commit();
}

}  // namespace klein::io
