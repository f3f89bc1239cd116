#include "klein/weights/gguf_tensors.h"

#include <map>
#include <string_view>

#include <fmt/format.h>
#include <fmt/ranges.h>

#include "klein/core/error.h"
#include "klein/io/gguf.h"

namespace klein::weights {
namespace {

using quant::Format;

/// ggml's names of the blocks that quant decodes.
const std::map<std::string_view, Format> kBlocks = {
    {"Q4_0", Format::q4_0}, {"Q4_1", Format::q4_1}, {"Q5_0", Format::q5_0}, {"Q5_1", Format::q5_1},
    {"Q8_0", Format::q8_0}, {"Q2_K", Format::q2_k}, {"Q3_K", Format::q3_k}, {"Q4_K", Format::q4_k},
    {"Q5_K", Format::q5_k}, {"Q6_K", Format::q6_k}};

}  // namespace

WeightFiles open_gguf(const std::filesystem::path& path) {
  const auto file = io::GgufFile::open(path, io::Access::copy_on_write);
  WeightFiles weights;
  weights.path = path;
  std::vector<std::string> refused;
  for (const auto& tensor : file.tensors()) {
    expect_countable(tensor.name, tensor.shape, path);
    const auto block = kBlocks.find(tensor.type);
    if (!tensor.dtype && block == kBlocks.end()) {
      refused.push_back(fmt::format("{} of type {}", tensor.name, tensor.type));
      continue;
    }
    StoredTensor stored;
    stored.name = tensor.name;
    stored.shape = tensor.shape;
    stored.numbers = {file.file(), file.bytes(tensor), tensor.dtype.value_or(io::Dtype::uint8)};
    if (!tensor.dtype) stored.layout = quant::Layout{.format = block->second};
    weights.tensors.push_back(std::move(stored));
  }
  if (!refused.empty())
    throw Error(
        ErrorKind::unsupported,
        fmt::format(
            "expected tensors of types that can be decoded, got {}{}: {}", refused.front(),
            refused.size() > 1 ? fmt::format(" and {} more", refused.size() - 1) : std::string(),
            path.string()),
        "Q8_0, Q6_K, Q5_K, Q4_K, Q3_K, Q2_K, Q5_1, Q5_0, Q4_1, Q4_0, BF16, F16 and F32 "
        "can be read.");
  return weights;
}

}  // namespace klein::weights
