#pragma once

#include <cstdint>
#include <filesystem>
#include <list>
#include <string>
#include <vector>

#include "klein/models/flux2/lora.h"
#include "klein/pipeline/request.h"
#include "klein/tensor/mlx.h"
#include "klein/weights/adapters.h"

namespace klein::flux2 {

/// What the LoRAs of one request add to the layers of a model.
struct Adapters {
  weights::AdapterMap transformer, text_encoder;

  /// Equal where the part computes the same; empty where nothing is added to it.
  std::string transformer_key, text_encoder_key;
  std::vector<std::string> warnings;  ///< Sentences for the person who asked.
};

/// LoRAs that are put on a model request by request: read once, and kept while they are in use.
class RunTimeLoras {
 public:
  /// Those that none of the last `kept_requests` requests named are let go.
  explicit RunTimeLoras(std::uint64_t kept_requests) : kept_requests_(kept_requests) {}

  /// The LoRAs of one request, whose names are files; those of scale 0 add nothing. A file whose
  /// size or time has changed is read again.
  ///
  /// Dtype    for layers that compute in `compute_dtype`
  /// Errors   as read_lora; Error(unsupported) for a LoRA that changes the table of embeddings
  Adapters read(const std::vector<LoraChoice>& choices, const Checkpoint& checkpoint,
                mx::Dtype compute_dtype);

  /// Bytes of all that are kept.
  std::uint64_t nbytes() const;

 private:
  struct Entry {
    std::filesystem::path path;
    std::uintmax_t file_bytes = 0;
    std::filesystem::file_time_type time;
    Lora lora;
    std::uint64_t number = 0;  ///< Of no other entry, earlier ones included.
    std::uint64_t last_request = 0;
  };

  Entry& entry(const std::filesystem::path& path, const Checkpoint& checkpoint,
               mx::Dtype compute_dtype);

  std::uint64_t kept_requests_;
  std::list<Entry> entries_;
  std::uint64_t requests_ = 0, numbers_ = 0;
};

}  // namespace klein::flux2
