#include "klein/engine/describe_model.h"

#include <algorithm>
#include <array>
#include <cstdlib>
#include <map>
#include <set>

#include <fmt/format.h>

#include "klein/core/error.h"
#include "klein/engine/device_thread.h"
#include "klein/engine/open_model.h"
#include "klein/io/file.h"
#include "klein/io/image.h"
#include "klein/io/text.h"
#include "klein/models/flux2/memory_plan.h"
#include "klein/tensor/device.h"

namespace klein {
namespace {

namespace fs = std::filesystem;
using flux2::PartKind;
using flux2::PartSource;

constexpr int kPictureSide = 1024;  // whose memory is told
constexpr const char* kIndex = "model_index.json";

/// Counts tensors, parameters and bytes, by encoding.
void add_tensors(const weights::WeightFiles& files, PartDescription& part) {
  std::map<std::string, TensorFormat> formats;
  for (const auto& tensor : files.tensors) {
    auto& format = formats[tensor.encoding()];
    ++format.tensors;
    format.bytes += tensor.bytes();
    part.bytes += tensor.bytes();
    std::uint64_t parameters = 1;
    for (const auto side : tensor.shape) parameters *= static_cast<std::uint64_t>(side);
    part.parameters += parameters;
  }
  for (auto& [name, format] : formats) {
    format.name = name;
    part.formats.push_back(std::move(format));
  }
  std::ranges::stable_sort(part.formats, std::greater(), &TensorFormat::bytes);
  if (!files.saved_by.empty()) part.saved_by = "mflux " + files.saved_by;
}

void add_sizes(const PartSource& source, PartDescription& part) {
  if (source.kind == PartKind::transformer) {
    const auto c = flux2::transformer_config(source);
    part.sizes = {{"double blocks", c.num_layers},
                  {"single blocks", c.num_single_layers},
                  {"heads", c.num_attention_heads},
                  {"head width", c.attention_head_dim},
                  {"width", c.dim()},
                  {"prompt width", c.joint_attention_dim}};
  } else if (source.kind == PartKind::text_encoder) {
    const auto c = flux2::text_encoder_config(source);
    part.sizes = {{"layers", c.num_hidden_layers},
                  {"heads", c.num_attention_heads},
                  {"key heads", c.num_key_value_heads},
                  {"head width", c.head_dim},
                  {"width", c.hidden_size},
                  {"MLP width", c.intermediate_size},
                  {"tokens", c.vocab_size}};
  } else {
    const auto c = flux2::vae_config(source);
    part.sizes = {{"levels", static_cast<std::int64_t>(c.block_out_channels.size())},
                  {"encoder width", c.block_out_channels.back()},
                  {"decoder width", c.decoder_block_out_channels.back()},
                  {"latent channels", c.latent_channels},
                  {"pixels per latent", c.scale()}};
  }
}

PartDescription describe_part(const PartSource& source) {
  PartDescription part{.name = std::string(flux2::part_name(source.kind)),
                       .path = source.path,
                       .base = source.difference ? source.difference->base : fs::path(),
                       .convention = std::string(weights::convention_name(source.convention)),
                       .saved_by = {},
                       .formats = {},
                       .sizes = {}};
  add_tensors(source.files, part);
  add_sizes(source, part);
  return part;
}

/// An adapter, where the tensors are one.
std::optional<PartDescription> describe_adapter(const weights::WeightFiles& files) {
  const auto shapes = files.shapes();
  const auto name = flux2::adapter_name(shapes);
  if (!name) return std::nullopt;
  PartDescription part{.name = std::string(*name),
                       .path = files.path,
                       .base = {},
                       .convention = {},
                       .saved_by = {},
                       .formats = {},
                       .sizes = {}};
  add_tensors(files, part);
  std::set<std::int64_t> ranks;
  for (const auto& [tensor, shape] : shapes)
    for (const char* down : {".lora_A.", ".lora_down.", ".lora.down."})
      if (tensor.find(down) != tensor.npos && shape.size() >= 2) ranks.insert(shape[0]);
  for (const auto rank : ranks) part.sizes.emplace_back("rank", rank);
  return part;
}

bool holds_parts(const fs::path& folder) {
  return std::ranges::any_of(std::array{kIndex, "transformer", "text_encoder", "vae", "tokenizer"},
                             [&](const char* name) { return io::is_there(folder / name); });
}

/// Refuses what is no weight file before a reader of weights stumbles over its first bytes.
void expect_no_picture(const fs::path& file) {
  const auto mapped = io::MappedFile::open(file);
  if (io::format_of(mapped.bytes()))
    throw Error(ErrorKind::unsupported,
                fmt::format("expected a model, a part of one or an adapter, got a picture: {}",
                            file.string()));
}

/// "a transformer", "a transformer and an autoencoder".
std::string list_of(const std::vector<PartDescription>& parts) {
  std::string text;
  for (std::size_t i = 0; i < parts.size(); ++i) {
    if (i > 0) text += i + 1 < parts.size() ? ", " : " and ";
    text += (parts[i].name.starts_with('a') ? "an " : "a ") + parts[i].name;
  }
  return text;
}

class Describer {
 public:
  Describer(const EngineOptions& options, const ProgressCallback& progress)
      : options_(options),
        find_{.base_model = options.base_model, .may_download = false, .progress = progress} {}

  ModelDescription operator()() {
    use_device(options_.device);
    if (const auto planned = planned_download(options_.model, find_)) {
      describe_download(*planned);
      return std::move(result_);
    }
    location_ = find_model(options_.model, find_);
    result_.path = location_.path;
    result_.repo = location_.repo;
    std::error_code error;
    const bool is_folder = fs::is_directory(location_.path, error);
    if (!is_folder) expect_no_picture(location_.path);
    if (is_folder && holds_parts(location_.path))
      describe_whole();
    else
      describe_weights(is_folder);
    return std::move(result_);
  }

 private:
  void tell_variant(flux2::Variant variant, const std::string& source) {
    const auto defaults = flux2::defaults_of(variant);
    result_.variant = flux2::name_of(variant);
    result_.variant_source = source;
    result_.default_steps = defaults.steps;
    result_.default_guidance = defaults.guidance;
  }

  void describe_download(const PlannedDownload& planned) {
    result_.kind = "repository of the Hugging Face hub";
    result_.repo = planned.repo;
    DownloadDescription download{
        .repo = planned.repo, .bytes = planned.bytes, .missing_bytes = planned.missing_bytes};
    for (const auto& file : planned.files)
      download.files.push_back({file.name, file.bytes, file.is_here});
    result_.download = std::move(download);
    if (!planned.doubt.empty())
      result_.warnings.push_back("the size is only about right, since the hub did not tell it: " +
                                 planned.doubt);
    const auto* entry =
        flux2::find_entry(options_.base_model.empty() ? planned.repo : options_.base_model);
    const auto name = planned.repo.substr(planned.repo.find('/') + 1);
    if (entry != nullptr)
      tell_variant(entry->variant, options_.base_model.empty() ? "its name" : "--base-model");
    else if (const auto variant = flux2::variant_of_file_name(name))
      tell_variant(*variant, "its name");
  }

  /// A file of weights, or a folder of one part's.
  void describe_weights(bool is_folder) {
    const auto files = is_folder ? weights::WeightFiles::open_folder(location_.path)
                                 : weights::WeightFiles::open(location_.path);
    if (auto adapter = describe_adapter(files)) {
      result_.kind = adapter->name;
      result_.parts.push_back(*std::move(adapter));
      return;
    }
    if (!is_folder) return describe_whole();
    for (const auto& part : flux2::find_parts(files.shapes(), files.path.string()))
      result_.parts.push_back(describe_part(flux2::open_part(location_.path, part.kind)));
    result_.kind = "folder of " + list_of(result_.parts);
    if (location_.variant) tell_variant(*location_.variant, location_.variant_source);
  }

  /// A model in folders, or in one file that may be a part only.
  void describe_whole() {
    auto files = model_files(options_, location_, find_);
    files.fetch = [this](const std::string& part) { return cached_part(part); };
    const auto found = flux2::gather_parts(files);
    std::vector<PartDescription> own;
    for (const auto* source : {&found.transformer, &found.text_encoder, &found.vae})
      if (*source) {
        result_.parts.push_back(describe_part(**source));
        if ((*source)->path == location_.path) own.push_back(result_.parts.back());
      }
    if (found.tokenizer) result_.tokenizer = *found.tokenizer;
    result_.missing_parts = found.missing;
    result_.is_complete = found.missing.empty();
    result_.kind = kind_of(found, own);
    if (!result_.is_complete) {
      if (const auto* entry = flux2::find_entry(location_.name)) result_.missing_from = entry->repo;
      if (location_.variant) tell_variant(*location_.variant, location_.variant_source);
      return;
    }
    describe_complete(flux2::Checkpoint::read(files));
  }

  std::string kind_of(const flux2::FoundParts& found,
                      const std::vector<PartDescription>& own) const {
    if (!own.empty()) return "file of " + list_of(own);
    if (found.transformer && found.transformer->convention == weights::Convention::mflux)
      return "mflux folder";
    return io::is_there(location_.path / kIndex) ? "diffusers folder" : "folder of parts";
  }

  void describe_complete(const flux2::Checkpoint& checkpoint) {
    checkpoint.expect_fitting_weights();
    tell_variant(checkpoint.variant, checkpoint.variant_source);
    result_.default_steps = checkpoint.default_steps();
    result_.default_guidance = checkpoint.default_guidance();
    result_.warnings = checkpoint.warnings;
    const auto peak =
        flux2::expected_peak(checkpoint, load_options(options_), kPictureSide, kPictureSide);
    result_.peak_bytes = peak.comfortable;
    result_.least_peak_bytes = peak.least;
  }

  /// From the cache, where the published model that this one was made from is there.
  std::optional<fs::path> cached_part(const std::string& part) const {
    try {
      return find_part(location_, part, find_);
    } catch (const Error& e) {
      if (e.kind() != ErrorKind::not_found) throw;
      return std::nullopt;  // it is told as missing
    }
  }

  const EngineOptions& options_;
  FindOptions find_;
  ModelLocation location_;
  ModelDescription result_;
};

}  // namespace

ModelDescription describe_model(const EngineOptions& options, const ProgressCallback& progress) {
  DeviceThread thread;
  return thread.run([&] { return translated([&] { return Describer(options, progress)(); }); });
}

}  // namespace klein
