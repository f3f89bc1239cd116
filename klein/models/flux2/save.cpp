#include "klein/models/flux2/save.h"

#include <algorithm>
#include <utility>

#include <fmt/format.h>

#include "klein/core/error.h"
#include "klein/io/json.h"
#include "klein/models/flux2/config_json.h"
#include "klein/models/flux2/latent_rgb.h"
#include "klein/models/flux2/naming.h"
#include "klein/models/flux2/new_folder.h"
#include "klein/models/flux2/sizes.h"
#include "klein/weights/quantize.h"
#include "klein/weights/shards.h"
#include "klein/weights/tensor_map.h"

namespace klein::flux2 {
namespace {

namespace fs = std::filesystem;
using weights::Convention;
using weights::Merged;
using weights::PendingTensor;

/// The release of mflux whose layout this is.
constexpr const char* kMfluxVersion = "0.24.0";

/// Width of the prompt features of Klein 4B and 9B.
constexpr int kFeatures4b = 7680;
constexpr int kFeatures9b = 12288;

constexpr std::uint64_t kDiffusersShardBytes = std::uint64_t{10} << 30;

std::vector<std::string> names_of(const weights::WeightMap& map) {
  std::vector<std::string> names;
  for (const auto& [name, weight] : map) names.push_back(name);
  std::ranges::sort(names);
  return names;
}

mx::array dense(const ops::Weight& weight) {
  if (const auto* array = std::get_if<mx::array>(&weight)) return *array;
  return ops::unpack(std::get<ops::PackedMatrix>(weight), mx::bfloat16);
}

/// Rows under each other, halves swapped back, a matrix as a 1x1 convolution.
mx::array merged_value(const Merged& merged, const weights::WeightMap& map) {
  std::vector<mx::array> parts;
  for (const auto& source : merged.sources) parts.push_back(dense(map.at(source)));
  auto value = parts.size() == 1 ? parts.front() : mx::concatenate(parts, 0);
  if (merged.swap_halves) {
    const auto halves = mx::split(value, 2, 0);
    value = mx::concatenate({halves[1], halves[0]}, 0);
  }
  return merged.squeeze && value.ndim() == 2 ? mx::expand_dims(value, {2, 3}) : value;
}

std::vector<PendingTensor> pending(const std::map<std::string, Merged>& tensors,
                                   const weights::WeightMap& map) {
  std::vector<PendingTensor> result;
  for (const auto& [name, merged] : tensors) result.push_back({name, merged_value(merged, map)});
  return result;
}

/// mflux's names for HF's: the same without the first word.
std::map<std::string, Merged> mflux_text_tensors(const std::vector<std::string>& weights) {
  std::map<std::string, Merged> tensors;
  for (const auto& name : weights) {
    constexpr std::string_view word = "model.";
    tensors[name.starts_with(word) ? name.substr(word.size()) : name].sources = {name};
  }
  return tensors;
}

std::map<std::string, Merged> tensors_of(PartKind kind, Convention convention,
                                         const std::vector<std::string>& weights) {
  if (kind == PartKind::transformer) return transformer_tensors(weights, convention);
  if (kind == PartKind::vae) return vae_tensors(weights, convention);
  return convention == Convention::mflux ? mflux_text_tensors(weights)
                                         : weights::unrename(weights, {}, 0);
}

/// The tensors of a part as mflux's files hold them: bfloat16, convolutions with channels last, a
/// packed matrix in three.
struct MfluxTensors {
  explicit MfluxTensors(const std::optional<quant::Target>& wanted) : target(wanted) {}

  /// Packed where that is asked for; a matrix that is packed already and not asked for keeps its
  /// packing where MLX has it.
  void add(const std::string& name, const ops::Weight& weight) {
    const auto shape = ops::shape_of(weight);
    const bool is_matrix = shape.size() == 2 && name.ends_with(".weight");
    const auto* packed = std::get_if<ops::PackedMatrix>(&weight);
    if (is_matrix && target && weights::can_quantize(*target, shape[1])) {
      add_packed(name, packed != nullptr && weights::is_packed_as(*packed, *target)
                           ? *packed
                           : weights::quantize(dense(weight), *target));
    } else if (packed != nullptr && !target && ops::is_mlx_format(*packed)) {
      add_packed(name, *packed);
    } else {
      auto value = mx::astype(dense(weight), mx::bfloat16);
      if (value.ndim() == 4) value = mx::transpose(value, {0, 2, 3, 1});
      list.push_back({name, value});
    }
  }

  void add_packed(const std::string& name, const ops::PackedMatrix& packed) {
    const auto& layout = packed.layout;
    const bool is_fp8 = layout.format == quant::Format::fp8_e4m3;
    level = layout.format == quant::Format::affine
                ? fmt::format("{}", layout.bits)
                : quant::target_name({layout.format, is_fp8 ? 8 : layout.bits});
    const auto stem = name.substr(0, name.rfind(".weight"));
    if (is_fp8) {
      list.push_back({name, packed.codes, true});
      list.push_back({stem + ".weight_scale", *packed.scales});
      return;
    }
    list.push_back({name, packed.codes});
    list.push_back({stem + ".scales", *packed.scales});
    if (packed.biases) list.push_back({stem + ".biases", *packed.biases});
  }

  std::optional<quant::Target> target;
  std::string level = "None";  ///< What mflux's metadata calls the packing of the last matrix.
  std::vector<PendingTensor> list;
};

/// BFL's name for such a transformer: "flux-2-klein-base-4b".
std::string bfl_stem(const Checkpoint& checkpoint) {
  std::string stem = "flux-2-klein";
  if (checkpoint.variant == Variant::base) stem += "-base";
  const int features = checkpoint.transformer.joint_attention_dim;
  if (features == kFeatures4b) stem += "-4b";
  if (features == kFeatures9b) stem += "-9b";
  if (checkpoint.variant == Variant::kv) stem += "-kv";
  return stem;
}

/// A reader of BFL's files has no JSON beside them and takes the published settings for granted.
void expect_bfl_can_hold(const Checkpoint& c) {
  const auto expect = [&](const nlohmann::json& own, const nlohmann::json& read) {
    for (const auto& [key, value] : own.items())
      if (read.at(key) != value)
        throw Error(ErrorKind::unsupported,
                    fmt::format("expected {} to be {}, which readers of BFL's files take for "
                                "granted, got {}: {}",
                                key, read.at(key).dump(), value.dump(), c.path.string()),
                    "Save with --format diffusers or --format mflux.");
  };
  const auto where = c.path.string();
  Checkpoint read = c;
  read.transformer = transformer_config_from(c.transformer_source.shapes, where);
  read.vae = vae_config_from(c.vae_source.shapes, where);
  const Checkpoint published;
  read.scheduler = published.scheduler;
  read.max_sequence_length = published.max_sequence_length;
  read.text_encoder_out_layers = published.text_encoder_out_layers;
  expect(transformer_json(c.transformer), transformer_json(read.transformer));
  expect(vae_json(c.vae), vae_json(read.vae));
  expect(scheduler_json(c.scheduler), scheduler_json(read.scheduler));
  expect(model_index_json(c), model_index_json(read));
}

class Saver {
 public:
  Saver(const Checkpoint& checkpoint, const LoadOptions& options, const SaveRequest& request,
        const ProgressCallback& progress)
      : checkpoint_(checkpoint),
        options_(options),
        layout_(request.layout),
        progress_(progress),
        folder_(request.folder) {}

  SaveResult operator()() {
    const bool bfl = layout_ == SaveLayout::bfl;
    const auto& c = checkpoint_;
    count_tensors();
    report(0);
    part(c.transformer_source, "transformer", options_.quantize_transformer,
         bfl ? bfl_stem(c) + ".safetensors" : "");
    part(c.text_encoder_source, "text_encoder", options_.quantize_text_encoder, "");
    part(c.vae_source, "vae", options_.quantize_vae, bfl ? "ae.safetensors" : "");
    write_json_files();
    copy_tokenizer();
    if (!bfl) copy_latent_rgb();
    ++done_;
    report(0);
    folder_.commit();
    for (auto& file : result_.files) {
      file = folder_.final_path() / file.lexically_relative(folder_.path());
      result_.bytes += fs::file_size(file);
    }
    result_.warnings = c.warnings;
    for (auto& warning : lora_warnings(c, options_)) result_.warnings.push_back(std::move(warning));
    return std::move(result_);
  }

 private:
  /// Progress counts the tensors of the source, and one for all that is no tensor.
  void count_tensors() {
    for (const auto* source : {&checkpoint_.transformer_source, &checkpoint_.text_encoder_source,
                               &checkpoint_.vae_source})
      total_ += static_cast<std::int64_t>(source->renaming.origins.size());
  }

  /// The head of a language model, which no network here uses but other programs miss.
  static const weights::StoredTensor* head_of(const PartSource& source) {
    for (const auto& stored : source.files.tensors)
      if (stored.name.ends_with("lm_head.weight") || stored.name == "output.weight") return &stored;
    return nullptr;
  }

  /// What no network here uses but other programs miss: the head of a text encoder, a counter.
  void add_unused(const PartSource& source, std::vector<PendingTensor>& tensors) const {
    if (layout_ == SaveLayout::mflux) return;
    if (source.kind == PartKind::vae)
      tensors.push_back({"bn.num_batches_tracked", mx::zeros({}, mx::int64)});
    const auto* head = source.kind == PartKind::text_encoder ? head_of(source) : nullptr;
    if (head == nullptr || checkpoint_.text_encoder.tie_word_embeddings) return;
    weights::Renaming only;
    only.origins["lm_head.weight"].source = head->name;
    tensors.push_back(
        {"lm_head.weight", dense(weights::weight_map(source.files, only).at("lm_head.weight"))});
  }

  void part(const PartSource& source, const std::string& name,
            const std::optional<quant::Target>& target, const std::string& single_file) {
    const auto convention = layout_ == SaveLayout::mflux ? Convention::mflux
                            : single_file.empty()        ? Convention::diffusers
                                                         : Convention::bfl;
    std::vector<PendingTensor> list;
    std::map<std::string, std::string> metadata = {{"format", "pt"}};
    {
      auto map = weights::weight_map(source.files, source.renaming);
      merge(map, options_.loras, source, {});
      const auto tensors = tensors_of(source.kind, convention, names_of(map));
      if (layout_ == SaveLayout::mflux) {
        MfluxTensors mflux(target);
        for (const auto& [tensor, merged] : tensors)
          mflux.add(tensor, map.at(merged.sources.front()));
        list = std::move(mflux.list);
        metadata = {{"quantization_level", mflux.level}, {"mflux_version", kMfluxVersion}};
      } else {
        list = pending(tensors, map);
      }
    }
    add_unused(source, list);
    const auto folder = single_file.empty() ? folder_.path() / name : folder_.path();
    const auto count = static_cast<std::int64_t>(list.size());
    const auto weight = static_cast<std::int64_t>(source.renaming.origins.size());
    const auto files =
        weights::write_shards(folder, std::move(list), shard_names(source.kind, single_file),
                              metadata, [&](int done) { report(weight * done / count); });
    done_ += weight;
    result_.files.insert(result_.files.end(), files.begin(), files.end());
  }

  weights::ShardNames shard_names(PartKind kind, const std::string& single_file) const {
    if (!single_file.empty())
      return {.index = {},
              .shard = [single_file](int, int) { return single_file; },
              .max_bytes = ~std::uint64_t{0}};
    if (layout_ == SaveLayout::mflux)
      return {.index = "model.safetensors.index.json",
              .index_always = true,
              .shard = [](int shard, int) { return fmt::format("{}.safetensors", shard); }};
    const std::string stem = kind == PartKind::text_encoder ? "model" : "diffusion_pytorch_model";
    return {.index = stem + ".safetensors.index.json",
            .shard =
                [stem](int shard, int count) {
                  return count == 1
                             ? stem + ".safetensors"
                             : fmt::format("{}-{:05}-of-{:05}.safetensors", stem, shard + 1, count);
                },
            .max_bytes = kDiffusersShardBytes};
  }

  void write_json(const fs::path& name, const nlohmann::json& json) {
    io::write_atomically(folder_.path() / name, io::as_bytes(json.dump(2) + "\n"));
    result_.files.push_back(folder_.path() / name);
  }

  void write_json_files() {
    auto text_encoder = checkpoint_.text_encoder;
    // Without a head transformers would make one up, and say so.
    if (head_of(checkpoint_.text_encoder_source) == nullptr)
      text_encoder.tie_word_embeddings = true;
    write_json("text_encoder/config.json", text_encoder_json(text_encoder));
    if (layout_ == SaveLayout::bfl) return;
    write_json("model_index.json", model_index_json(checkpoint_));
    write_json("scheduler/scheduler_config.json", scheduler_json(checkpoint_.scheduler));
    write_json("transformer/config.json", transformer_json(checkpoint_.transformer));
    write_json("vae/config.json", vae_json(checkpoint_.vae));
  }

  void copy_text(const fs::path& from, const fs::path& name) {
    io::write_atomically(folder_.path() / name, io::as_bytes(io::read_text(from)));
    result_.files.push_back(folder_.path() / name);
  }

  void copy_latent_rgb() {
    const auto file = checkpoint_.vae_source.path / kLatentRgbFile;
    if (fs::exists(file)) copy_text(file, fs::path("vae") / kLatentRgbFile);
  }

  /// The whole folder where the tokenizer has one of its own, else its file and what it is read
  /// with.
  void copy_tokenizer() {
    const auto& source = checkpoint_.tokenizer;
    const auto copy = [&](const fs::path& from, const fs::path& name) {
      copy_text(from, fs::path("tokenizer") / name);
    };
    if (fs::is_directory(source)) {
      for (const auto& entry : fs::directory_iterator(source))
        if (entry.is_regular_file()) copy(entry.path(), entry.path().filename());
      return;
    }
    copy(source, "tokenizer.json");
    for (const char* name : {"tokenizer_config.json", "chat_template.jinja"})
      if (fs::exists(source.parent_path() / name)) copy(source.parent_path() / name, name);
  }

  /// `done` of the part that is being written.
  void report(std::int64_t done) const {
    if (progress_ && !progress_({.stage = Stage::save, .done = done_ + done, .total = total_}))
      throw Error(ErrorKind::cancelled, "stopped on request");
  }

  const Checkpoint& checkpoint_;
  const LoadOptions& options_;
  SaveLayout layout_;
  const ProgressCallback& progress_;
  NewFolder folder_;
  std::int64_t done_ = 0, total_ = 1;
  SaveResult result_;
};

}  // namespace

SaveResult save(const Checkpoint& checkpoint, const LoadOptions& options,
                const SaveRequest& request, const ProgressCallback& progress) {
  const bool packs =
      options.quantize_transformer || options.quantize_text_encoder || options.quantize_vae;
  if (packs && request.layout != SaveLayout::mflux)
    throw Error(ErrorKind::usage,
                "expected no quantization, since only mflux's layout can hold packed weights",
                "Leave -q out, or save with --format mflux.");
  checkpoint.expect_fitting_weights();
  if (request.layout == SaveLayout::bfl) expect_bfl_can_hold(checkpoint);
  return Saver(checkpoint, options, request, progress)();
}

}  // namespace klein::flux2
