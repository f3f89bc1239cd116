#include "klein/weights/stored_tensor.h"

#include <algorithm>
#include <charconv>
#include <limits>

#include <fmt/format.h>
#include <fmt/ranges.h>

#include "klein/core/error.h"
#include "klein/io/file.h"
#include "klein/weights/gguf_tensors.h"

namespace klein::weights {
namespace {

namespace fs = std::filesystem;

constexpr auto kAccess = io::Access::copy_on_write;

/// 0.safetensors, 1.safetensors, ... as mflux numbers them; nothing when it is another name.
std::optional<int> shard_number(const fs::path& file) {
  const auto stem = file.stem().string();
  int number = 0;
  const auto [end, failure] = std::from_chars(stem.data(), stem.data() + stem.size(), number);
  const bool whole = failure == std::errc() && end == stem.data() + stem.size() && !stem.empty();
  return whole && number >= 0 ? std::optional(number) : std::nullopt;
}

/// Weight files of a folder without an index, hidden ones left out.
std::vector<fs::path> loose_files(const fs::path& folder) {
  std::vector<fs::path> files;
  std::error_code error;
  for (const auto& entry : fs::directory_iterator(folder, error)) {
    const auto name = entry.path().filename().string();
    const auto extension = entry.path().extension();
    if (!name.starts_with('.') && (extension == ".safetensors" || extension == ".gguf"))
      files.push_back(entry.path());
  }
  std::ranges::sort(files);
  return files;
}

WeightFiles from_safetensors(fs::path path, const std::vector<io::SafetensorsFile>& files) {
  WeightFiles weights;
  weights.path = std::move(path);
  weights.tensors = gather_tensors(files);
  for (const auto& file : files)
    if (const auto version = file.metadata().find("mflux_version");
        version != file.metadata().end())
      weights.saved_by = version->second;
  return weights;
}

/// The shards of a folder that lost its index: numbers from 0 without a gap.
WeightFiles from_numbered(const fs::path& folder, std::vector<fs::path> files) {
  std::ranges::sort(files, {}, [](const fs::path& f) { return *shard_number(f); });
  std::vector<io::SafetensorsFile> opened;
  for (std::size_t i = 0; i < files.size(); ++i) {
    if (*shard_number(files[i]) != static_cast<int>(i))
      throw Error(ErrorKind::not_found,
                  fmt::format("expected {}.safetensors before {}: {}", i,
                              files[i].filename().string(), folder.string()),
                  "The download may be incomplete");
    opened.push_back(io::SafetensorsFile::open(files[i], kAccess));
  }
  return from_safetensors(folder, opened);
}

}  // namespace

void advise(const FileBytes& part, io::Advice advice) noexcept {
  if (!part.file || part.bytes.empty()) return;
  part.file->advise(advice, static_cast<std::uint64_t>(part.bytes.data() - part.file->data()),
                    part.bytes.size());
}

void StoredTensor::advise(io::Advice advice) const noexcept {
  for (const auto* part : {&numbers, &scales, &biases, &column_scales})
    weights::advise(*part, advice);
}

std::string StoredTensor::encoding() const {
  if (!layout) return std::string(io::dtype_name(numbers.dtype));
  if (layout->format == quant::Format::affine) return fmt::format("affine {}-bit", layout->bits);
  return std::string(quant::format_name(layout->format));
}

std::uint64_t StoredTensor::bytes() const {
  return numbers.bytes.size() + scales.bytes.size() + biases.bytes.size() +
         column_scales.bytes.size();
}

std::string describe(const Shape& shape) {
  return fmt::format("[{}]", fmt::join(shape, ", "));
}

void expect_countable(const std::string& name, const Shape& shape, const fs::path& file) {
  constexpr std::int64_t kMaxSide = std::numeric_limits<int>::max();
  std::int64_t count = 1;
  for (const auto side : shape)
    if (side > kMaxSide || __builtin_mul_overflow(count, std::max<std::int64_t>(side, 1), &count))
      throw Error(ErrorKind::unsupported,
                  fmt::format("expected sides of at most {} for {}, got {}: {}", kMaxSide, name,
                              describe(shape), file.string()));
}

WeightFiles WeightFiles::open(const fs::path& file) {
  if (file.extension() == ".gguf") return open_gguf(file);
  return from_safetensors(file, {io::SafetensorsFile::open(file, kAccess)});
}

WeightFiles WeightFiles::open_folder(const fs::path& folder) {
  for (const char* stem : {"diffusion_pytorch_model", "model"})
    if (io::is_there(folder / fmt::format("{}.safetensors.index.json", stem)) ||
        io::is_there(folder / fmt::format("{}.safetensors", stem))) {
      const auto weights = io::ShardedWeights::open(folder, stem, kAccess);
      return from_safetensors(weights.path(), weights.files());
    }
  const auto files = loose_files(folder);
  if (!files.empty() && std::ranges::all_of(files, [](const auto& f) {
        return shard_number(f).has_value() && f.extension() == ".safetensors";
      }))
    return from_numbered(folder, files);
  if (files.size() == 1) return open(files.front());
  throw Error(
      ErrorKind::not_found,
      fmt::format("expected weights (an index and its shards, or one .safetensors or .gguf file), "
                  "found {} files: {}",
                  files.size(), folder.string()),
      "The download may be incomplete");
}

Shapes WeightFiles::shapes() const {
  Shapes shapes;
  for (const auto& tensor : tensors) shapes.emplace(tensor.name, tensor.shape);
  return shapes;
}

std::uint64_t WeightFiles::bytes() const {
  std::uint64_t total = 0;
  for (const auto& tensor : tensors) total += tensor.bytes();
  return total;
}

}  // namespace klein::weights
