#include <algorithm>
#include <iterator>
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

std::string describe(const TensorHeader& tensor) {
  return fmt::format("{} [{}] for `{}`", dtype_name(tensor.dtype), fmt::join(tensor.shape, ", "),
                     printable(tensor.name));
}

/// Nothing where a side is negative or the product does not fit into 64 bits.
std::optional<std::uint64_t> bytes_of(const TensorHeader& tensor) {
  std::uint64_t bytes = dtype_bytes(tensor.dtype);
  for (const auto side : tensor.shape)
    if (side < 0 || __builtin_mul_overflow(bytes, static_cast<std::uint64_t>(side), &bytes))
      return std::nullopt;
  return bytes;
}

/// The tensors as they are; throws where no file can hold them.
std::vector<TensorHeader> checked(std::vector<TensorHeader> tensors,
                                  const std::filesystem::path& path) {
  std::uint64_t total = 0;
  for (const auto& tensor : tensors) {
    const auto bytes = bytes_of(tensor);
    if (!bytes || __builtin_add_overflow(total, *bytes, &total))
      throw Error(ErrorKind::shape, fmt::format("expected a shape that a file can hold, got {}: {}",
                                                describe(tensor), path.string()));
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
  return tensors;
}

std::string json_text(const std::string& text, const std::filesystem::path& path) {
  try {
    return nlohmann::json(text).dump();
  } catch (const nlohmann::json::exception&) {
    throw Error(ErrorKind::usage, fmt::format("expected a name or text in UTF-8, got {}: {}",
                                              in_quotes(text), path.string()));
  }
}

/// The length of the header, then the header.
std::string beginning_of(const std::vector<TensorHeader>& tensors,
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
    const std::uint64_t end = offset + *bytes_of(tensor);
    entries.push_back(fmt::format(R"({}:{{"dtype":"{}","shape":[{}],"data_offsets":[{},{}]}})",
                                  json_text(tensor.name, path), dtype_name(tensor.dtype),
                                  fmt::join(tensor.shape, ","), offset, end));
    offset = end;
  }
  std::string header = fmt::format("{{{}}}", fmt::join(entries, ","));
  header.resize((header.size() + kAlignment - 1) / kAlignment * kAlignment, ' ');
  std::string length(8, '\0');
  for (std::size_t i = 0; i < length.size(); ++i)
    length[i] = static_cast<char>(std::uint64_t{header.size()} >> (8 * i) & 0xff);
  return length + header;
}

}  // namespace

bool comes_first(const TensorHeader& a, const TensorHeader& b) {
  return std::tie(b.dtype, a.name) < std::tie(a.dtype, b.name);
}

SafetensorsWriter::SafetensorsWriter(const std::filesystem::path& path,
                                     std::vector<TensorHeader> tensors,
                                     const std::map<std::string, std::string>& metadata,
                                     Overwrite overwrite)
    : tensors_(checked(std::move(tensors), path)), path_(path) {
  const auto beginning = beginning_of(tensors_, metadata, path);
  file_.emplace(path, overwrite);
  file_->write(beginning);
}

void SafetensorsWriter::write(std::span<const std::byte> data) {
  const auto& tensor = tensors_.at(next_);
  if (bytes_of(tensor) != data.size())
    throw Error(ErrorKind::shape, fmt::format("expected the bytes of {}, got {}: {}",
                                              describe(tensor), data.size(), path_.string()));
  file_->write(data);
  ++next_;
}

std::filesystem::path SafetensorsWriter::commit() {
  if (next_ < tensors_.size())
    throw Error(ErrorKind::shape, fmt::format("expected the bytes of {}, got none: {}",
                                              describe(tensors_[next_]), path_.string()));
  return file_->commit();
}

std::filesystem::path write_safetensors(const std::filesystem::path& path,
                                        std::vector<TensorView> tensors,
                                        const std::map<std::string, std::string>& metadata,
                                        Overwrite overwrite) {
  const auto info = [](const TensorView& t) { return TensorHeader{t.name, t.dtype, t.shape}; };
  std::ranges::sort(tensors, comes_first, info);
  std::vector<TensorHeader> infos;
  std::ranges::transform(tensors, std::back_inserter(infos), info);
  SafetensorsWriter writer(path, std::move(infos), metadata, overwrite);
  for (const auto& tensor : tensors) writer.write(tensor.data);
  return writer.commit();
}

}  // namespace klein::io
