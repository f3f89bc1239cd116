#include "klein/models/flux2/run_time_loras.h"

#include <algorithm>
#include <string_view>
#include <system_error>
#include <unordered_set>
#include <utility>
#include <variant>

#include <fmt/format.h>

#include "klein/core/error.h"
#include "klein/models/flux2/checkpoint.h"

namespace klein::flux2 {
namespace {

constexpr std::string_view kTable = "model.embed_tokens.weight";

void expect_no_table(const Lora& lora) {
  for (const auto& delta : lora.text_encoder)
    if (delta.weight == kTable)
      throw Error(ErrorKind::unsupported,
                  fmt::format("expected a LoRA that changes linear layers, got one that changes "
                              "the table {}: {}",
                              kTable, lora.path.string()),
                  "It can be merged into the weights (--merge-loras).");
}

void add(const std::vector<weights::LoraDelta>& deltas, double scale, weights::AdapterMap& to) {
  for (const auto& delta : deltas)
    to[delta.weight].push_back(
        {.matrix = delta.matrix, .scale = static_cast<float>(delta.scale * scale)});
}

/// Of the arrays that a LoRA holds, each once: q, k and v may share one.
class ByteCounter {
 public:
  void operator()(const mx::array& a) {
    if (seen_.insert(a.id()).second) bytes_ += a.nbytes();
  }
  void operator()(const nn::LowRank& m) {
    (*this)(m.a);
    (*this)(m.b);
  }
  void operator()(const nn::HadamardProduct& m) {
    (*this)(m.first);
    (*this)(m.second);
  }
  void operator()(const nn::KroneckerProduct& m) {
    (*this)(m.w1);
    (*this)(m.w2);
  }
  std::uint64_t bytes() const { return bytes_; }

 private:
  std::unordered_set<std::uintptr_t> seen_;
  std::uint64_t bytes_ = 0;
};

}  // namespace

Adapters RunTimeLoras::read(const std::vector<LoraChoice>& choices, const Checkpoint& checkpoint,
                            mx::Dtype compute_dtype) {
  ++requests_;
  Adapters adapters;
  for (const auto& [name, scale] : choices) {
    const auto& found = entry(name, checkpoint, compute_dtype);
    const auto& lora = found.lora;
    adapters.warnings.insert(adapters.warnings.end(), lora.warnings.begin(), lora.warnings.end());
    if (scale == 0.0) continue;
    add(lora.transformer, scale, adapters.transformer);
    add(lora.text_encoder, scale, adapters.text_encoder);
    const auto key = fmt::format("{} x {}, ", found.number, scale);
    if (!lora.transformer.empty()) adapters.transformer_key += key;
    if (!lora.text_encoder.empty()) adapters.text_encoder_key += key;
  }
  entries_.remove_if([&](const Entry& e) { return e.last_request + kept_requests_ <= requests_; });
  return adapters;
}

RunTimeLoras::Entry& RunTimeLoras::entry(const std::filesystem::path& path,
                                         const Checkpoint& checkpoint, mx::Dtype compute_dtype) {
  std::error_code error;
  const auto bytes = std::filesystem::file_size(path, error);
  const auto time =
      error ? std::filesystem::file_time_type() : std::filesystem::last_write_time(path, error);
  const auto known = std::ranges::find(entries_, path, &Entry::path);
  if (known != entries_.end()) {
    known->last_request = requests_;
    if (!error && known->file_bytes == bytes && known->time == time) return *known;
    entries_.erase(known);
  }
  auto lora = read_lora(path, 1.0, checkpoint, compute_dtype);
  expect_no_table(lora);
  return entries_.emplace_back(Entry{path, bytes, time, std::move(lora), ++numbers_, requests_});
}

std::uint64_t RunTimeLoras::nbytes() const {
  ByteCounter count;
  for (const auto& entry : entries_)
    for (const auto* deltas : {&entry.lora.transformer, &entry.lora.text_encoder})
      for (const auto& delta : *deltas) std::visit([&](const auto& m) { count(m); }, delta.matrix);
  return count.bytes();
}

}  // namespace klein::flux2
