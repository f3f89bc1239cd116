#include "klein/models/flux2/save.h"

#include <algorithm>
#include <cstdlib>
#include <set>
#include <utility>

#include <fmt/format.h>
#include <unistd.h>

#include "klein/core/error.h"
#include "klein/io/json.h"
#include "klein/models/flux2/config_json.h"
#include "klein/models/flux2/naming.h"
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

constexpr std::uint64_t kDiffusersShardBytes = std::uint64_t{10} << 30;

/// A folder that takes its name only when it is complete.
class AtomicFolder {
 public:
  explicit AtomicFolder(const fs::path& path) : final_(fs::absolute(path).lexically_normal()) {
    if (!final_.has_filename()) final_ = final_.parent_path();
    std::error_code error;
    if (fs::exists(final_, error) && (!fs::is_directory(final_, error) || !fs::is_empty(final_)))
      throw Error(ErrorKind::usage,
                  fmt::format("expected a new or empty folder to save in, got one that is not: {}",
                              path.string()));
    fs::create_directories(final_.parent_path(), error);
    auto pattern = (final_.parent_path() / ("." + final_.filename().string() + ".XXXXXX")).string();
    if (::mkdtemp(pattern.data()) == nullptr)
      throw Error(ErrorKind::io, fmt::format("cannot make a folder beside {}", path.string()));
    temporary_ = pattern;
  }
  AtomicFolder(const AtomicFolder&) = delete;
  AtomicFolder& operator=(const AtomicFolder&) = delete;
  ~AtomicFolder() {
    std::error_code ignored;
    if (!temporary_.empty()) fs::remove_all(temporary_, ignored);
  }

  const fs::path& path() const { return temporary_; }

  void commit() {
    std::error_code error;
    fs::permissions(temporary_, fs::perms(0755), error);
    fs::rename(temporary_, final_, error);
    if (error)
      throw Error(ErrorKind::io, fmt::format("cannot rename the finished folder to {}: {}",
                                             final_.string(), error.message()));
    temporary_.clear();
  }

  const fs::path& final_path() const { return final_; }

 private:
  fs::path final_, temporary_;
};

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

class Saver {
 public:
  Saver(const Checkpoint& checkpoint, const SaveOptions& options, const ProgressCallback& progress)
      : checkpoint_(checkpoint), options_(options), progress_(progress), folder_(options.folder) {
    const bool packs =
        options.quantize_transformer || options.quantize_text_encoder || options.quantize_vae;
    if (packs && options.layout != SaveLayout::mflux)
      throw Error(ErrorKind::usage,
                  "expected no quantization, since only mflux's layout can hold packed weights",
                  "Leave -q out, or save with --format mflux.");
  }

  SaveReport operator()() {
    checkpoint_.expect_fitting_weights();
    report_.warnings =
        lora_warnings(checkpoint_, {.quantize_transformer = options_.quantize_transformer,
                                    .quantize_text_encoder = options_.quantize_text_encoder,
                                    .loras = options_.loras});
    const bool bfl = options_.layout == SaveLayout::bfl;
    part(checkpoint_.transformer_source, "transformer", options_.quantize_transformer,
         bfl ? "flux-2-klein.safetensors" : "");
    part(checkpoint_.text_encoder_source, "text_encoder", options_.quantize_text_encoder, "");
    part(checkpoint_.vae_source, "vae", options_.quantize_vae, bfl ? "ae.safetensors" : "");
    write_json_files();
    copy_tokenizer();
    for (auto& file : report_.files)
      file = folder_.final_path() / file.lexically_relative(folder_.path());
    folder_.commit();
    for (const auto& file : report_.files) report_.bytes += fs::file_size(file);
    return std::move(report_);
  }

 private:
  /// What no network here uses but other programs miss: the head of a text encoder, a counter.
  void add_unused(const PartSource& source, std::vector<PendingTensor>& tensors) const {
    if (options_.layout == SaveLayout::mflux) return;
    if (source.kind == PartKind::vae) {
      tensors.push_back({"bn.num_batches_tracked", mx::zeros({}, mx::int64)});
      return;
    }
    for (const auto& stored : source.files.tensors)
      if (source.kind == PartKind::text_encoder && stored.name == "lm_head.weight") {
        weights::Renaming only;
        only.origins["lm_head.weight"].source = stored.name;
        tensors.push_back(
            {stored.name, dense(weights::weight_map(source.files, only).at(stored.name))});
      }
  }

  void part(const PartSource& source, const std::string& name,
            const std::optional<quant::Target>& target, const std::string& single_file) {
    auto map = weights::weight_map(source.files, source.renaming);
    merge(map, options_.loras, source, {});
    const auto convention = options_.layout == SaveLayout::mflux ? Convention::mflux
                            : single_file.empty()                ? Convention::diffusers
                                                                 : Convention::bfl;
    const auto tensors = tensors_of(source.kind, convention, names_of(map));
    auto list = options_.layout == SaveLayout::mflux ? mflux_tensors(tensors, map, target)
                                                     : pending(tensors, map);
    add_unused(source, list);
    map.clear();
    const auto folder = single_file.empty() ? folder_.path() / name : folder_.path();
    const auto count = list.size();
    const auto files =
        weights::write_shards(folder, std::move(list), shard_names(source.kind, single_file),
                              metadata(target), [&](int done) { report(done, count); });
    report_.files.insert(report_.files.end(), files.begin(), files.end());
  }

  /// In bfloat16, convolutions with channels last; matrices packed where that is asked for, in
  /// three tensors each. A matrix that is packed already and not asked for keeps its packing where
  /// MLX has it.
  static std::vector<PendingTensor> mflux_tensors(const std::map<std::string, Merged>& tensors,
                                                  const weights::WeightMap& map,
                                                  const std::optional<quant::Target>& target) {
    std::vector<PendingTensor> list;
    for (const auto& [name, merged] : tensors) {
      const auto& weight = map.at(merged.sources.front());
      const auto shape = ops::shape_of(weight);
      const bool matrix = shape.size() == 2 && name.ends_with(".weight");
      if (matrix && target && weights::can_quantize(*target, shape[1])) {
        add_packed(list, name, weights::quantize(dense(weight), *target));
        continue;
      }
      const auto* packed = std::get_if<ops::PackedMatrix>(&weight);
      if (packed != nullptr && !target && ops::is_mlx_format(*packed)) {
        add_packed(list, name, *packed);
        continue;
      }
      auto value = mx::astype(dense(weight), mx::bfloat16);
      if (value.ndim() == 4) value = mx::transpose(value, {0, 2, 3, 1});
      list.push_back({name, value});
    }
    return list;
  }

  static void add_packed(std::vector<PendingTensor>& list, const std::string& name,
                         const ops::PackedMatrix& packed) {
    const auto stem = name.substr(0, name.rfind(".weight"));
    if (packed.layout.format == quant::Format::fp8_e4m3) {
      list.push_back({name, packed.codes, true});
      list.push_back({stem + ".weight_scale", *packed.scales});
      return;
    }
    list.push_back({name, packed.codes});
    list.push_back({stem + ".scales", *packed.scales});
    if (packed.biases) list.push_back({stem + ".biases", *packed.biases});
  }

  weights::ShardNames shard_names(PartKind kind, const std::string& single_file) const {
    if (!single_file.empty())
      return {.index = {},
              .shard = [single_file](int, int) { return single_file; },
              .max_bytes = ~std::uint64_t{0}};
    if (options_.layout == SaveLayout::mflux)
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

  std::map<std::string, std::string> metadata(const std::optional<quant::Target>& target) const {
    if (options_.layout != SaveLayout::mflux) return {{"format", "pt"}};
    return {{"quantization_level", target ? quant::target_name(*target) : "None"},
            {"mflux_version", kMfluxVersion}};
  }

  void write_json(const fs::path& name, const nlohmann::json& json) {
    io::write_atomically(folder_.path() / name, io::as_bytes(json.dump(2) + "\n"));
    report_.files.push_back(folder_.path() / name);
  }

  void write_json_files() {
    write_json("model_index.json", model_index_json(checkpoint_));
    write_json("scheduler/scheduler_config.json", scheduler_json(checkpoint_.scheduler));
    write_json("transformer/config.json", transformer_json(checkpoint_.transformer));
    write_json("text_encoder/config.json", text_encoder_json(checkpoint_.text_encoder));
    write_json("vae/config.json", vae_json(checkpoint_.vae));
  }

  /// The whole folder where the tokenizer has one of its own, else its one file.
  void copy_tokenizer() {
    const auto& source = checkpoint_.tokenizer;
    const auto target = folder_.path() / "tokenizer";
    std::vector<fs::path> files{source};
    if (fs::is_directory(source)) {
      files.clear();
      for (const auto& entry : fs::directory_iterator(source))
        if (entry.is_regular_file()) files.push_back(entry.path());
    }
    for (const auto& file : files) {
      io::write_atomically(target / file.filename(), io::as_bytes(io::read_text(file)));
      report_.files.push_back(target / file.filename());
    }
  }

  void report(int done, std::size_t total) const {
    if (progress_ &&
        !progress_({.stage = Stage::save, .done = done, .total = static_cast<int>(total)}))
      throw Error(ErrorKind::cancelled, "stopped on request");
  }

  const Checkpoint& checkpoint_;
  const SaveOptions& options_;
  const ProgressCallback& progress_;
  AtomicFolder folder_;
  SaveReport report_;
};

}  // namespace

SaveReport save(const Checkpoint& checkpoint, const SaveOptions& options,
                const ProgressCallback& progress) {
  return Saver(checkpoint, options, progress)();
}

}  // namespace klein::flux2
