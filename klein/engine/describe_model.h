#pragma once

#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "klein/core/progress.h"
#include "klein/engine/engine.h"

namespace klein {

/// Tensors of one encoding: "BF16", "Q4_K", "affine 4-bit".
struct TensorFormat {
  std::string name;
  std::int64_t tensors = 0;
  std::uint64_t bytes = 0;
};

/// One network of a model, or an adapter, as its files hold it.
struct PartDescription {
  std::string name;  ///< "transformer", "text encoder", "autoencoder", "LoRA".
  std::filesystem::path path;
  std::filesystem::path base;         ///< Whose weights a low-rank difference adds to; else empty.
  std::string convention;             ///< Whose names its tensors bear: "diffusers", "BFL".
  std::string saved_by;               ///< "mflux 0.24.0", where a file says so.
  std::vector<TensorFormat> formats;  ///< The largest first.
  std::uint64_t parameters = 0;
  std::uint64_t bytes = 0;
  std::vector<std::pair<std::string, std::int64_t>> sizes;  ///< ("heads", 24).
};

/// What would come from the Hugging Face hub.
struct DownloadDescription {
  struct File {
    std::string name;
    std::uint64_t bytes = 0;
    bool is_here = false;
  };
  std::string repo;
  std::vector<File> files = {};  ///< Empty where the hub could not be asked.
  std::uint64_t bytes = 0;
  std::uint64_t missing_bytes = 0;
};

/// What is known of a model without reading its weights.
struct ModelDescription {
  /// "diffusers folder", "mflux folder", "folder of parts", "file of a transformer",
  /// "folder of a text encoder", "LoRA", "repository of the Hugging Face hub".
  std::string kind;
  std::filesystem::path path = {};  ///< Empty where it is not on this machine.
  std::string repo = {};            ///< Of the hub, where it came or would come from there.
  bool is_complete = false;         ///< Whether nothing is missing to make pictures.

  std::string variant = {};         ///< "distilled", "base", "kv"; empty where nothing tells.
  std::string variant_source = {};  ///< "model_index.json", "its name", "--base-model".
  int default_steps = 0;
  double default_guidance = 0.0;

  std::vector<PartDescription> parts = {};
  std::filesystem::path tokenizer = {};
  std::vector<std::string> missing_parts = {};  ///< "transformer", "tokenizer".
  std::string missing_from = {};  ///< The repository that they are fetched from when they are used.

  /// Memory of one picture of 1024 x 1024 pixels on this machine: where it abounds, and the least
  /// that will do. Of a complete model only.
  std::optional<std::uint64_t> peak_bytes = {}, least_peak_bytes = {};

  std::optional<DownloadDescription> download = {};
  std::vector<std::string> warnings = {};  ///< Sentences for the person who asked.
};

/// Describes a model, one of its parts or an adapter: by a name, a folder or a file, as
/// EngineOptions::model. Nothing is downloaded; of a name that is on the hub only it says what
/// would be, which asks the hub.
///
/// Errors   as Engine; Error(unsupported) for pictures and for other models, saying what they are
/// Thread   any; `progress` is called while the hub is asked, to hear whether to go on
ModelDescription describe_model(const EngineOptions& options,
                                const ProgressCallback& progress = {});

}  // namespace klein
