#include "klein/models/flux2/checkpoint.h"

#include <array>
#include <string>

#include <fmt/format.h>
#include <fmt/ranges.h>

#include "klein/core/error.h"
#include "klein/io/config_fields.h"
#include "klein/io/json.h"
#include "klein/io/safetensors.h"
#include "klein/weights/fill.h"
#include "klein/weights/tensor_map.h"

namespace klein::flux2 {
namespace {

constexpr const char* kWeightsStem = "diffusion_pytorch_model";

/// All files that a checkpoint needs beside its weights are looked for at once, so that a person
/// with half a download sees the whole list.
void expect_files(const std::filesystem::path& folder) {
  if (!std::filesystem::is_directory(folder))
    throw Error(ErrorKind::not_found,
                fmt::format("expected a model folder, found none: {}", folder.string()),
                "Give the folder that holds model_index.json.");
  constexpr std::array needed = {"model_index.json",         "scheduler/scheduler_config.json",
                                 "text_encoder/config.json", "tokenizer/tokenizer.json",
                                 "transformer/config.json",  "vae/config.json"};
  std::vector<std::string> missing;
  for (const char* name : needed)
    if (!std::filesystem::exists(folder / name)) missing.emplace_back(name);
  if (!missing.empty())
    throw Error(ErrorKind::not_found,
                fmt::format("expected {} in the model folder, found none: {}",
                            fmt::join(missing, ", "), folder.string()),
                "The folder must be a FLUX.2 Klein checkpoint in the layout of diffusers.");
}

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

template <typename Config>
Config read_config(const std::filesystem::path& folder, const char* name) {
  const auto json = io::parse_json_file(folder / name);
  return Config::from_json({json, (folder / name).string()});
}

template <typename Module>
void fill_from(Module& module, const std::filesystem::path& folder, const char* stem,
               mx::Dtype dtype, const weights::NameFilter& unused) {
  const auto files = io::ShardedWeights::open(folder, stem, io::Access::copy_on_write);
  weights::fill(module, weights::tensor_map(files, unused), dtype, files.path().string());
}

}  // namespace

Checkpoint Checkpoint::read(const std::filesystem::path& folder) {
  expect_files(folder);
  Checkpoint c;
  c.folder = folder;

  const auto index = io::parse_json_file(folder / "model_index.json");
  const io::JsonReader json{index, (folder / "model_index.json").string()};
  std::string class_name;
  json.require("_class_name", class_name);
  if (class_name != "Flux2KleinPipeline" && class_name != "Flux2KleinKVPipeline")
    io::refuse(json, "_class_name", "Flux2KleinPipeline or Flux2KleinKVPipeline");
  c.is_distilled = class_name == "Flux2KleinKVPipeline";  // which never registers the key
  json.maybe("is_distilled", c.is_distilled);
  json.maybe("text_encoder_out_layers", c.text_encoder_out_layers);
  json.maybe("max_sequence_length", c.max_sequence_length);
  if (c.max_sequence_length < 1 || c.max_sequence_length > 65536)
    json.fail("max_sequence_length", "is out of range");

  const auto scheduler_file = folder / "scheduler/scheduler_config.json";
  const auto scheduler = io::parse_json_file(scheduler_file);
  c.scheduler = scheduler_config({scheduler, scheduler_file.string()});
  c.transformer = read_config<TransformerConfig>(folder, "transformer/config.json");
  c.text_encoder = read_config<qwen3::TextEncoderConfig>(folder, "text_encoder/config.json");
  c.vae = read_config<VaeConfig>(folder, "vae/config.json");

  const int features =
      static_cast<int>(c.text_encoder_out_layers.size()) * c.text_encoder.hidden_size;
  if (features != c.transformer.joint_attention_dim)
    throw Error(ErrorKind::shape,
                fmt::format("expected prompt features of width joint_attention_dim {}, but {} "
                            "layers of the text encoder give {}: {}",
                            c.transformer.joint_attention_dim, c.text_encoder_out_layers.size(),
                            features, folder.string()));
  if (4 * c.vae.latent_channels != c.transformer.in_channels)
    throw Error(ErrorKind::shape,
                fmt::format("expected in_channels to be 4 x latent_channels, got {} and {}: {}",
                            c.transformer.in_channels, c.vae.latent_channels, folder.string()));
  return c;
}

Transformer Checkpoint::load_transformer(mx::Dtype dtype) const {
  Transformer module(transformer);
  fill_from(module, folder / "transformer", kWeightsStem, dtype, {});
  return module;
}

qwen3::TextEncoder Checkpoint::load_text_encoder(mx::Dtype dtype) const {
  qwen3::TextEncoder module(text_encoder, text_encoder_out_layers);
  fill_from(module, folder / "text_encoder", "model", dtype,
            [&](const std::string& name) { return module.is_unused(name); });
  return module;
}

Vae Checkpoint::load_vae(mx::Dtype dtype) const {
  Vae module(vae);
  fill_from(module, folder / "vae", kWeightsStem, dtype,
            [](const std::string& name) { return name == "bn.num_batches_tracked"; });
  return module;
}

}  // namespace klein::flux2
