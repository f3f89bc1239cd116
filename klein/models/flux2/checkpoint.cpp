#include "klein/models/flux2/checkpoint.h"

#include <string>
#include <utility>

#include <fmt/format.h>
#include <fmt/ranges.h>

#include "klein/core/error.h"
#include "klein/io/config_fields.h"
#include "klein/io/file.h"
#include "klein/io/json.h"
#include "klein/models/flux2/part_loading.h"
#include "klein/models/flux2/sizes.h"
#include "klein/models/qwen3/naming.h"
#include "klein/sampling/flow_match.h"

namespace klein::flux2 {
namespace {

namespace fs = std::filesystem;

sampling::SchedulerConfig scheduler_config(const io::JsonReader& json) {
  sampling::SchedulerConfig c;
  std::string time_shift_type = "exponential";
  json.maybe("num_train_timesteps", c.num_train_timesteps);
  json.maybe("use_dynamic_shifting", c.use_dynamic_shifting);
  json.maybe("shift", c.shift);
  json.maybe("time_shift_type", time_shift_type);
  if (time_shift_type != "exponential" && time_shift_type != "linear")
    io::refuse(json, "time_shift_type", "exponential or linear");
  c.exponential_time_shift = time_shift_type == "exponential";
  if (c.num_train_timesteps != 1000) io::refuse(json, "num_train_timesteps", "1000");

  double shift_terminal = 0.0;
  json.maybe("shift_terminal", shift_terminal);
  if (shift_terminal != 0.0) io::refuse(json, "shift_terminal", "null");
  for (const char* key : {"invert_sigmas", "stochastic_sampling", "use_karras_sigmas",
                          "use_exponential_sigmas", "use_beta_sigmas"}) {
    bool on = false;
    json.maybe(key, on);
    if (on) io::refuse(json, key, "false");
  }
  return c;
}

/// A config.json where the part has one, else what the shapes of its tensors tell.
template <typename Config>
Config config_of(const PartSource& source,
                 Config (*from_shapes)(const weights::Shapes&, std::string_view)) {
  if (!source.config) return from_shapes(source.shapes, source.path.string());
  const auto json = io::parse_json_file(*source.config);
  return Config::from_json({json, source.config->string()});
}

/// The JSON files of a folder in the layout of diffusers; all that are missing are told at once,
/// since a download may have stopped anywhere. mflux's folders have none.
void expect_json_files(const ModelFiles& files) {
  const auto& folder = files.model;
  const auto has_weights = [&](const char* stem) {
    return io::is_there(folder / fmt::format("transformer/{}.safetensors", stem)) ||
           io::is_there(folder / fmt::format("transformer/{}.safetensors.index.json", stem));
  };
  if (!io::is_there(folder / "model_index.json") && !has_weights("diffusion_pytorch_model")) return;
  std::vector<std::string> missing;
  const auto need = [&](bool is_used, const char* name) {
    if (is_used && !io::is_there(folder / name)) missing.emplace_back(name);
  };
  need(true, "model_index.json");
  need(true, "scheduler/scheduler_config.json");
  need(!files.transformer, "transformer/config.json");
  need(!files.text_encoder, "text_encoder/config.json");
  need(!files.vae, "vae/config.json");
  if (!missing.empty())
    throw Error(ErrorKind::not_found,
                fmt::format("expected {} in the model folder, found none: {}",
                            fmt::join(missing, ", "), folder.string()),
                "The download may be incomplete.");
}

/// Gathers the parts of a model from wherever they are.
class Finder {
 public:
  explicit Finder(const ModelFiles& files) : files_(files) {
    std::error_code error;
    if (!io::is_there(files.model))
      throw Error(
          ErrorKind::not_found,
          fmt::format("expected a model folder or file, found none: {}", files.model.string()));
    if (!fs::is_directory(files.model, error))
      in_file_ = open_parts(weights::WeightFiles::open(files.model));
  }

  std::optional<PartSource> part(PartKind kind, const char* name,
                                 const std::optional<fs::path>& replacement) {
    if (replacement) return open_part(*replacement, kind);
    for (auto& source : in_file_)
      if (source.kind == kind) return std::move(source);
    if (const auto folder = inside_or_fetched(name)) return open_part(*folder, kind);
    return std::nullopt;
  }

  std::optional<fs::path> tokenizer() {
    return files_.tokenizer ? files_.tokenizer : inside_or_fetched("tokenizer");
  }

 private:
  std::optional<fs::path> inside_or_fetched(const char* name) {
    if (in_file_.empty() && io::is_there(files_.model / name)) return files_.model / name;
    return files_.fetch ? files_.fetch(name) : std::nullopt;
  }

  const ModelFiles& files_;
  std::vector<PartSource> in_file_;
};

void expect_complete(const FoundParts& found, const fs::path& model) {
  if (found.missing.empty()) return;
  throw Error(ErrorKind::not_found,
              fmt::format("expected a whole model, found no {}: {}",
                          fmt::join(found.missing, ", no "), model.string()),
              "Name the missing parts with --transformer, --text-encoder, --vae, --tokenizer.");
}

void read_index(Checkpoint& c, const fs::path& file) {
  const auto index = io::parse_json_file(file);
  const io::JsonReader json{index, file.string()};
  std::string class_name;
  json.require("_class_name", class_name);
  if (class_name != "Flux2KleinPipeline" && class_name != "Flux2KleinKVPipeline")
    io::refuse(json, "_class_name", "Flux2KleinPipeline or Flux2KleinKVPipeline");
  bool is_distilled = class_name == "Flux2KleinKVPipeline";  // which never registers the key
  json.maybe("is_distilled", is_distilled);
  c.variant = class_name == "Flux2KleinKVPipeline" ? Variant::kv
              : is_distilled                       ? Variant::distilled
                                                   : Variant::base;
  json.maybe("text_encoder_out_layers", c.text_encoder_out_layers);
  json.maybe("max_sequence_length", c.max_sequence_length);
  if (c.max_sequence_length < 1 || c.max_sequence_length > 65536)
    json.fail("max_sequence_length", "is out of range");
  json.maybe("num_inference_steps", c.num_inference_steps);
  if (c.num_inference_steps &&
      (*c.num_inference_steps < 1 || *c.num_inference_steps > sampling::kMaxSteps))
    json.fail("num_inference_steps", "is out of range");
  if (c.variant == Variant::base) json.maybe("guidance_scale", c.guidance_scale);
  if (c.guidance_scale && !(*c.guidance_scale >= 1.0 && *c.guidance_scale <= 100.0))
    json.fail("guidance_scale", "is out of range");
}

void read_facts(Checkpoint& c, const ModelFiles& files) {
  const auto index = files.model / "model_index.json";
  if (io::is_there(index)) {
    read_index(c, index);
    c.variant_source = "model_index.json";
    // Of the published repositories only the name says that the weights are the kv ones.
    if (files.variant == Variant::kv && c.variant == Variant::distilled) {
      c.variant = Variant::kv;
      c.variant_source = files.variant_source;
    }
  } else if (files.variant) {
    c.variant = *files.variant;
    c.variant_source = files.variant_source;
  } else {
    c.variant_source = "nothing, so it is assumed";
    c.warnings.push_back(fmt::format(
        "nothing says whether {} is distilled or base, taking it for distilled (--base-model says)",
        files.model.filename().string()));
  }
  const auto scheduler = files.model / "scheduler/scheduler_config.json";
  if (io::is_there(scheduler)) {
    const auto json = io::parse_json_file(scheduler);
    c.scheduler = scheduler_config({json, scheduler.string()});
  }
}

void expect_matching(const Checkpoint& c) {
  const int features =
      static_cast<int>(c.text_encoder_out_layers.size()) * c.text_encoder.hidden_size;
  if (features != c.transformer.joint_attention_dim)
    throw Error(ErrorKind::shape,
                fmt::format("expected prompt features of width joint_attention_dim {}, but {} "
                            "layers of the text encoder give {}: {}",
                            c.transformer.joint_attention_dim, c.text_encoder_out_layers.size(),
                            features, c.path.string()),
                "Klein 4B goes with Qwen3-4B, Klein 9B with Qwen3-8B.");
  if (4 * c.vae.latent_channels != c.transformer.in_channels)
    throw Error(ErrorKind::shape,
                fmt::format("expected in_channels to be 4 x latent_channels, got {} and {}: {}",
                            c.transformer.in_channels, c.vae.latent_channels, c.path.string()));
}

}  // namespace

FoundParts gather_parts(const ModelFiles& files) {
  Finder finder(files);
  FoundParts found;
  const auto keep = [&](auto& place, auto part, const char* name) {
    if (!part) found.missing.emplace_back(name);
    place = std::move(part);
  };
  keep(found.transformer, finder.part(PartKind::transformer, "transformer", files.transformer),
       "transformer");
  keep(found.text_encoder, finder.part(PartKind::text_encoder, "text_encoder", files.text_encoder),
       "text_encoder");
  keep(found.vae, finder.part(PartKind::vae, "vae", files.vae), "vae");
  keep(found.tokenizer, finder.tokenizer(), "tokenizer");
  return found;
}

TransformerConfig transformer_config(const PartSource& source) {
  return config_of(source, transformer_config_from);
}

qwen3::TextEncoderConfig text_encoder_config(const PartSource& source) {
  return config_of(source, qwen3::config_from);
}

VaeConfig vae_config(const PartSource& source) {
  return config_of(source, vae_config_from);
}

Checkpoint Checkpoint::read(const ModelFiles& files) {
  Checkpoint c;
  c.path = files.model;
  expect_json_files(files);
  auto found = gather_parts(files);
  expect_complete(found, files.model);
  c.transformer_source = *std::move(found.transformer);
  c.text_encoder_source = *std::move(found.text_encoder);
  c.vae_source = *std::move(found.vae);
  c.tokenizer = *std::move(found.tokenizer);

  read_facts(c, files);
  c.transformer = transformer_config(c.transformer_source);
  c.text_encoder = text_encoder_config(c.text_encoder_source);
  c.vae = vae_config(c.vae_source);
  expect_matching(c);
  return c;
}

void Checkpoint::expect_fitting_weights() const {
  const auto check = [](auto module, const PartSource& source) {
    weights::expect_fit(module, source.shapes, source.path.string());
  };
  check(Transformer(transformer), transformer_source);
  check(qwen3::TextEncoder(text_encoder, {text_encoder.num_hidden_layers}), text_encoder_source);
  check(Vae(vae), vae_source);
}

Transformer Checkpoint::load_transformer(const LoadOptions& options) const {
  Transformer module(transformer);
  fill_part(module, transformer_source, options);
  return module;
}

PartSource Checkpoint::used_text_encoder_source() const {
  const auto module = qwen3::TextEncoder::without_layers(text_encoder, text_encoder_out_layers);
  return text_encoder_source.without(
      [&](const std::string& name) { return module.is_unused(name); });
}

qwen3::TextEncoder Checkpoint::load_text_encoder(const LoadOptions& options) const {
  qwen3::TextEncoder module(text_encoder, text_encoder_out_layers);
  fill_part(module, used_text_encoder_source(), options);
  return module;
}

Vae Checkpoint::load_vae(const LoadOptions& options) const {
  Vae module(vae);
  fill_part(module, vae_source, options);
  return module;
}

}  // namespace klein::flux2
