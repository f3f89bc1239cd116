#include "klein/models/flux2/memory_plan.h"

#include <algorithm>
#include <numeric>
#include <set>
#include <string_view>
#include <unordered_map>

#include <fmt/format.h>
#include <fmt/ranges.h>

#include "klein/core/error.h"
#include "klein/models/flux2/part_loading.h"
#include "klein/weights/quantize.h"

namespace klein::flux2 {
namespace {

constexpr double kGiga = 1e9;

// Measured, docs/memory.md has the figures: the program itself with a large vocabulary, and what
// the allocator keeps.
constexpr std::uint64_t kProgramBytes = 300'000'000;
constexpr double kSlack = 1.1;

bool on_cpu() {
  return mx::default_device() == mx::Device::cpu;
}

// --- bytes of the networks ---------------------------------------------------------------------

/// How one part is held, and what packing its largest matrix takes beside.
class PartMeter {
 public:
  PartMeter(const PartSource& source, const LoadOptions& options)
      : source_(source),
        options_(options),
        target_(target_of(source.kind, options)),
        changed_(changed_weights(options.loras, source)) {
    for (const auto& tensor : source.files.tensors) tensors_[tensor.name] = &tensor;
  }

  /// Sorts the tensors into blocks: those below `lists[i]` and a number, lists one after the other.
  PartBytes measure(const std::vector<std::pair<std::string, int>>& lists) {
    PartBytes part;
    for (const auto& [list, count] : lists)
      for (int i = 0; i < count; ++i) part.blocks.push_back(below(fmt::format("{}{}.", list, i)));
    const auto all = below("");
    part.stem = all - std::accumulate(part.blocks.begin(), part.blocks.end(), std::uint64_t{0});
    part.packing = packing_;
    return part;
  }

 private:
  std::uint64_t below(const std::string& prefix) {
    std::uint64_t bytes = 0;
    const auto& origins = source_.renaming.origins;
    for (auto it = origins.lower_bound(prefix);
         it != origins.end() && it->first.starts_with(prefix); ++it)
      bytes += held(it->first, it->second);
    return bytes;
  }

  std::uint64_t held(const std::string& name, const weights::Origin& origin) {
    const auto& shape = source_.shapes.at(name);
    const auto& tensor = *tensors_.at(origin.source);
    std::uint64_t numbers = 1;
    for (const auto extent : shape) numbers *= static_cast<std::uint64_t>(extent);
    const auto computed = numbers * mx::size_of(options_.dtype);
    if (shape.size() != 2) return computed;

    const auto& target = is_fp8_block(name) ? fp8_ : target_;
    if (target && weights::can_quantize(*target, static_cast<int>(shape[1]))) {
      // The matrix itself, in float32 where it has to be decoded or changed first.
      const bool is_widened = tensor.layout || changed_.contains(name);
      packing_ = std::max(packing_, is_widened ? numbers * 6 : numbers * 2);
      return weights::packed_bytes(*target, shape[0], shape[1]);
    }
    if (changed_.contains(name)) {
      packing_ = std::max(packing_, numbers * 8);  // both summands
      return numbers * (on_cpu() ? 2 : mx::size_of(options_.dtype));
    }
    // Of a table on disk only the rows of the prompt's words are touched.
    const bool is_table = name.find("embed_tokens") != std::string::npos;
    return is_table && on_cpu() ? 0 : stored_bytes(tensor, numbers, origin.parts);
  }

  /// A matrix that nobody packs anew: as in the file where it can stay so.
  std::uint64_t stored_bytes(const weights::StoredTensor& tensor, std::uint64_t numbers,
                             int parts) const {
    if (tensor.layout)
      return on_cpu() ? tensor.bytes() / static_cast<std::uint64_t>(parts) : numbers * 2;
    const bool stays = on_cpu() && tensor.numbers.dtype == io::Dtype::bfloat16;
    return stays ? numbers * 2 : numbers * mx::size_of(options_.dtype);
  }

  /// As StreamedTransformer packs them.
  bool is_fp8_block(const std::string& name) const {
    return options_.fp8_blocks && source_.kind == PartKind::transformer && !target_ &&
           name.find("transformer_blocks.") != std::string::npos;
  }

  const PartSource& source_;
  const LoadOptions& options_;
  const std::optional<quant::Target>& target_;
  const std::optional<quant::Target> fp8_ = quant::parse_target("fp8");
  std::unordered_map<std::string_view, const weights::StoredTensor*> tensors_;
  std::set<std::string> changed_;  ///< By LoRAs, under the model's names.
  std::uint64_t packing_ = 0;
};

// --- what the stages take beside the weights ---------------------------------------------------

/// One prompt in the text encoder: a layer's feed-forward is the widest place.
double text_pass_bytes(const qwen3::TextEncoderConfig& c, int tokens, double number) {
  const double widened = number < 4.0 ? 4.0 : 0.0;  // where a product has to unpack its input
  return tokens * (number * (6.0 * c.hidden_size + 3.0 * c.intermediate_size) +
                   widened * c.intermediate_size);
}

/// One block of the transformer: the outputs of its first product, with what is made of them; what
/// an adapter adds to them, and the sum of both.
double step_pass_bytes(const TransformerConfig& c, double tokens, double number,
                       bool has_adapters) {
  const double dim = c.dim(), mlp = c.mlp_dim();
  const double widened = number < 4.0 ? 4.0 : 0.0;
  const double added = has_adapters ? 2.0 * (3.0 * dim + 2.0 * mlp) : 0.0;
  return tokens * (number * (8.0 * dim + 3.0 * mlp + added) + widened * (dim + mlp));
}

std::uint64_t whole_bytes(double bytes) {
  return static_cast<std::uint64_t>(bytes);
}

/// The stages of one request: what each takes when this or that is in memory.
class Stages {
 public:
  Stages(const Checkpoint& checkpoint, const LoadOptions& options, const ModelBytes& bytes,
         const Workload& work)
      : checkpoint_(checkpoint), options_(options), bytes_(bytes), work_(work) {
    const double number = static_cast<double>(mx::size_of(options.dtype));
    const double own = work.text_tokens + double(work.rows) * work.columns;
    const double seen = work.keeps_references ? 0.0 : work.reference_tokens;
    // Kept references are read once, by themselves.
    const double tokens = std::max<double>(work.batch * (own + seen), work.reference_tokens);
    text_ =
        whole_bytes(kSlack * text_pass_bytes(checkpoint.text_encoder, work.text_tokens, number));
    step_ = whole_bytes(
        kSlack * (step_pass_bytes(checkpoint.transformer, tokens, number, work.has_adapters) +
                  (work.passes - 1) * tokens * checkpoint.transformer.dim() * number));
    if (work.keeps_references)
      kept_ = whole_bytes(2.0 * work.reference_tokens * checkpoint.transformer.dim() * number *
                          static_cast<double>(bytes.transformer.blocks.size()));
    program_ = (on_cpu() ? kProgramBytes : 0) + work.adapter_bytes;
  }

  /// Fills in the peaks of the stages, and how to decode.
  void measure(MemoryPlan& plan) const {
    const auto& t = bytes_.transformer;
    const bool stays = work_.next != NextRequest::none;
    const auto vae = bytes_.vae.whole();
    const auto first_streamed = t.blocks.end() - plan.streamed_blocks;
    plan.streamed_bytes = std::accumulate(first_streamed, t.blocks.end(), std::uint64_t{0});
    const auto resident = t.whole() - plan.streamed_bytes;
    const auto at_work =
        plan.streamed_blocks == 0 ? 0 : *std::max_element(first_streamed, t.blocks.end());
    const auto text_stays = plan.drop_text_encoder ? 0 : bytes_.text_encoder.whole();
    const auto always =
        program_ + (stays || work_.needs_vae_early ? vae : 0) + text_stays + (stays ? kept_ : 0);

    const auto all_there = program_ + vae + resident + text_encoder_bytes(plan) + text_;
    plan.load_at_once = all_there <= work_.budget_bytes;
    // With other prompts to come the transformer is there, from the picture before.
    const bool transformer_waits = plan.drop_transformer || work_.next != NextRequest::any;
    plan.text_bytes = plan.load_at_once || !transformer_waits
                          ? all_there
                          : program_ + text_encoder_bytes(plan) + text_;
    // Blocks on disk are packed in the middle of a step, others before the first.
    const auto work = plan.streamed_blocks > 0 ? step_ + t.packing : std::max(step_, t.packing);
    plan.step_bytes = always + (stays ? 0 : kept_) + resident + at_work + work;
    measure_encoding(plan, always, resident, transformer_waits);
    const bool has_vae = stays || work_.needs_vae_early;
    const auto beside_decode =
        always + (has_vae ? 0 : vae) + (plan.drop_transformer ? 0 : resident);
    const auto left = left_beside(beside_decode);
    const int scale = 2;  // latent pixels a token
    plan.decode = plan_decode(checkpoint_.vae, work_.vae_tiling, scale * work_.rows,
                              scale * work_.columns, options_.dtype, work_.low_ram ? 0 : left);
    plan.decode_bytes = beside_decode + plan.decode.estimated_bytes;
  }

 private:
  std::uint64_t left_beside(std::uint64_t bytes) const {
    return work_.budget_bytes > bytes ? work_.budget_bytes - bytes : 0;
  }

  void measure_encoding(MemoryPlan& plan, std::uint64_t always, std::uint64_t resident,
                        bool transformer_waits) const {
    if (work_.encoded_rows == 0) return;
    const auto beside = always + (plan.load_at_once || !transformer_waits ? resident : 0);
    plan.encode =
        plan_encode(checkpoint_.vae, work_.vae_tiling, work_.encoded_rows, work_.encoded_columns,
                    options_.dtype, work_.low_ram ? 0 : left_beside(beside));
    plan.encode_bytes = beside + plan.encode.estimated_bytes;
  }

  std::uint64_t text_encoder_bytes(const MemoryPlan& plan) const {
    if (!work_.encodes) return 0;
    const auto& e = bytes_.text_encoder;
    if (!plan.stream_text_encoder) return e.whole() + e.packing;
    return e.stem + e.packing + (e.blocks.empty() ? 0 : std::ranges::max(e.blocks));
  }

  const Checkpoint& checkpoint_;
  const LoadOptions& options_;
  const ModelBytes& bytes_;
  const Workload& work_;
  std::uint64_t text_ = 0, step_ = 0, kept_ = 0, program_ = 0;
};

std::string gigabytes(std::uint64_t bytes) {
  const auto number = static_cast<double>(bytes) / kGiga;
  return number < 1.0 ? fmt::format("{:.2f} GB", number) : fmt::format("{:.1f} GB", number);
}

}  // namespace

std::uint64_t PartBytes::whole() const {
  return std::accumulate(blocks.begin(), blocks.end(), stem);
}

std::uint64_t MemoryPlan::peak_bytes() const {
  return std::max({text_bytes, encode_bytes, step_bytes, decode_bytes});
}

ModelBytes bytes_of(const Checkpoint& c, const LoadOptions& options) {
  const auto text = c.used_text_encoder_source();
  const int layers = std::ranges::max(c.text_encoder_out_layers);
  return {.text_encoder = PartMeter(text, options).measure({{"model.layers.", layers}}),
          .transformer =
              PartMeter(c.transformer_source, options)
                  .measure({{"transformer_blocks.", c.transformer.num_layers},
                            {"single_transformer_blocks.", c.transformer.num_single_layers}}),
          .vae = PartMeter(c.vae_source, options).measure({})};
}

MemoryPlan plan_memory(const Checkpoint& checkpoint, const LoadOptions& options,
                       const ModelBytes& bytes, const Workload& work) {
  const Stages stages(checkpoint, options, bytes, work);
  MemoryPlan plan;
  plan.budget_bytes = work.budget_bytes;
  plan.block_count = static_cast<int>(bytes.transformer.blocks.size());
  // What nobody needs afterwards goes at once; a text encoder that goes may as well be read layer
  // by layer, each being needed once.
  plan.drop_text_encoder = work.low_ram || work.next != NextRequest::any;
  plan.drop_transformer = work.next == NextRequest::none;
  const auto stream_what_goes = [&] {
    plan.stream_text_encoder = plan.drop_text_encoder && !work.has_text_encoder;
    stages.measure(plan);
  };
  stream_what_goes();
  const auto comfortable = plan;
  if (!plan.fits()) {
    plan.drop_text_encoder = true;
    stream_what_goes();
  }
  if (!plan.fits()) {
    plan.stream_text_encoder = true;  // even where it is in memory: it goes, to come again in parts
    plan.drop_transformer = true;
    stages.measure(plan);
  }
  while (!plan.fits() && plan.streamed_blocks < plan.block_count) {
    ++plan.streamed_blocks;
    stages.measure(plan);
  }
  if (plan.streamed_blocks > 0 && work.next != NextRequest::none) {
    plan.drop_transformer = false;  // what is left of it may well stay
    stages.measure(plan);
    if (!plan.fits()) plan.drop_transformer = true;
    stages.measure(plan);
  }
  plan.is_notable =
      work.low_ram || plan.streamed_blocks > 0 ||
      plan.drop_text_encoder != comfortable.drop_text_encoder ||
      plan.drop_transformer != comfortable.drop_transformer ||
      (plan.decode.tiling != VaeTiling::off && work.vae_tiling == VaeTiling::automatic);
  return plan;
}

MemoryReport MemoryPlan::report() const {
  return {.plan = describe(),
          .is_notable = is_notable,
          .expected_peak_bytes = peak_bytes(),
          .budget_bytes = budget_bytes,
          .streamed_bytes = streamed_bytes};
}

std::string MemoryPlan::describe() const {
  std::vector<std::string> parts{
      fmt::format("expected peak {} of {}", gigabytes(peak_bytes()), gigabytes(budget_bytes))};
  if (drop_text_encoder) parts.emplace_back("text encoder dropped after the prompt");
  if (streamed_blocks == block_count && streamed_blocks > 0)
    parts.push_back(
        fmt::format("transformer streamed from disk ({} a step)", gigabytes(streamed_bytes)));
  else if (streamed_blocks > 0)
    parts.push_back(fmt::format("{} of {} blocks of the transformer streamed from disk ({} a step)",
                                streamed_blocks, block_count, gigabytes(streamed_bytes)));
  if (drop_transformer) parts.emplace_back("transformer dropped before the decoder");
  if (decode.tiling == VaeTiling::exact)
    parts.push_back(fmt::format("decoded in strips of {} rows", decode.strip_rows));
  return fmt::format("{}", fmt::join(parts, ", "));
}

ExpectedPeak expected_peak(const Checkpoint& checkpoint, const LoadOptions& options, int width,
                           int height) {
  const int pixels_per_token = 2 * checkpoint.vae.scale();
  const auto bytes = bytes_of(checkpoint, options);
  Workload work{.text_tokens = checkpoint.max_sequence_length,
                .rows = height / pixels_per_token,
                .columns = width / pixels_per_token,
                .passes = checkpoint.is_distilled() ? 1 : 2,
                .next = NextRequest::none,
                .budget_bytes = std::uint64_t{1} << 50};
  const auto comfortable = plan_memory(checkpoint, options, bytes, work).peak_bytes();
  work.budget_bytes = 0;
  return {.comfortable = comfortable,
          .least = plan_memory(checkpoint, options, bytes, work).peak_bytes()};
}

void expect_fits(const MemoryPlan& plan, const Workload& work, int width, int height,
                 bool is_given) {
  if (plan.fits()) return;
  const auto pictures =
      work.batch == 1 ? std::string() : fmt::format("{} pictures of ", work.batch);
  throw Error(ErrorKind::memory,
              fmt::format("expected at least {} of memory for {}{} x {} pixels, {} {}",
                          gigabytes(plan.peak_bytes()), pictures, width, height,
                          is_given ? "got a budget of" : "found", gigabytes(plan.budget_bytes)),
              fmt::format("Ask for {}, or {}.",
                          work.batch == 1 ? "a smaller picture" : "fewer or smaller pictures",
                          is_given ? "raise --memory-budget" : "end other programs"));
}

}  // namespace klein::flux2
