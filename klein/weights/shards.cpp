#include "klein/weights/shards.h"

#include <algorithm>
#include <iterator>
#include <span>
#include <utility>

#include <fmt/format.h>

#include "klein/core/error.h"
#include "klein/io/json.h"
#include "klein/io/safetensors.h"

namespace klein::weights {
namespace {

io::Dtype file_dtype(const PendingTensor& tensor) {
  const auto dtype = tensor.value.dtype();
  if (tensor.is_fp8) return io::Dtype::float8_e4m3;
  if (dtype == mx::bfloat16) return io::Dtype::bfloat16;
  if (dtype == mx::float16) return io::Dtype::float16;
  if (dtype == mx::float32) return io::Dtype::float32;
  if (dtype == mx::uint32) return io::Dtype::uint32;
  if (dtype == mx::uint8) return io::Dtype::uint8;
  if (dtype == mx::int64) return io::Dtype::int64;
  throw Error(ErrorKind::internal, "no file type for the tensor " + tensor.name);
}

/// Index of the first tensor of each shard; a tensor above the limit has a shard of its own.
std::vector<std::size_t> cut(const std::vector<PendingTensor>& tensors, std::uint64_t max_bytes) {
  std::vector<std::size_t> begins;
  std::uint64_t filled = 0;
  for (std::size_t i = 0; i < tensors.size(); ++i) {
    const std::uint64_t bytes = tensors[i].value.nbytes();
    if (begins.empty() || filled + bytes > max_bytes) {
      begins.push_back(i);
      filled = 0;
    }
    filled += bytes;
  }
  return begins;
}

io::TensorHeader header_of(const PendingTensor& tensor) {
  const auto shape = tensor.value.shape();
  return {tensor.name, file_dtype(tensor), {shape.begin(), shape.end()}};
}

/// One tensor after the other is computed, written and let go.
void write_shard(const std::filesystem::path& path, std::span<PendingTensor> tensors,
                 const std::map<std::string, std::string>& metadata,
                 const std::function<void()>& written) {
  std::ranges::sort(tensors, io::comes_first, header_of);
  std::vector<io::TensorHeader> headers;
  std::ranges::transform(tensors, std::back_inserter(headers), header_of);
  io::SafetensorsWriter writer(path, std::move(headers), metadata);
  for (auto& tensor : tensors) {
    auto value = mx::contiguous(std::exchange(tensor.value, mx::array(0)));
    mx::eval(value);
    mx::synchronize();
    writer.write({value.data<std::byte>(), value.nbytes()});
    written();
  }
  writer.commit();
}

}  // namespace

std::vector<std::filesystem::path> write_shards(const std::filesystem::path& folder,
                                                std::vector<PendingTensor> tensors,
                                                const ShardNames& names,
                                                const std::map<std::string, std::string>& metadata,
                                                const std::function<void(int done)>& written) {
  const auto begins = cut(tensors, names.max_bytes);
  const int count = static_cast<int>(begins.size());
  std::vector<std::filesystem::path> files;
  nlohmann::json map = nlohmann::json::object();
  std::uint64_t total = 0;
  int done = 0;
  for (std::size_t s = 0; s < begins.size(); ++s) {
    const auto end = s + 1 < begins.size() ? begins[s + 1] : tensors.size();
    const auto shard = std::span(tensors).subspan(begins[s], end - begins[s]);
    const auto name = names.shard(static_cast<int>(s), count);
    for (const auto& tensor : shard) {
      map[tensor.name] = name;
      total += tensor.value.nbytes();
    }
    write_shard(folder / name, shard, metadata, [&] { written(++done); });
    files.push_back(folder / name);
  }
  if (names.index_always || count > 1) {
    nlohmann::json meta = {{"total_size", total}};
    for (const auto& [key, value] : metadata) meta[key] = value;
    const nlohmann::json index = {{"metadata", meta}, {"weight_map", map}};
    io::write_atomically(folder / names.index, io::as_bytes(index.dump(2) + "\n"));
    files.push_back(folder / names.index);
  }
  return files;
}

}  // namespace klein::weights
