#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "klein/models/flux2/checkpoint.h"
#include "klein/models/flux2/vae_tiling.h"
#include "klein/pipeline/request.h"
#include "klein/tensor/mlx.h"

namespace klein::flux2 {

/// Bytes that a network takes in the memory of the device.
struct PartBytes {
  std::uint64_t stem = 0;             ///< What is in no block.
  std::vector<std::uint64_t> blocks;  ///< In their order; none for the autoencoder.
  std::uint64_t packing = 0;          ///< Beside them, while a weight is packed.

  std::uint64_t whole() const;
};

struct ModelBytes {
  PartBytes text_encoder, transformer, vae;
};

/// The networks as these options hold them, from the headers of the files alone.
///
/// Thread   device thread only: it depends on the device
ModelBytes bytes_of(const Checkpoint& checkpoint, const LoadOptions& options);

/// How much memory a model may take.
struct MemoryOptions {
  bool low_ram = false;  ///< Parts come and go, and the decoder works in strips, needed or not.

  /// For the whole process, or of the GPU; unset: what the system has.
  std::optional<std::uint64_t> budget_bytes = {};
};

/// One request, as far as its memory is concerned.
struct Workload {
  int text_tokens = 512, rows = 0, columns = 0;  ///< Tokens of a picture.
  int reference_tokens = 0;                      ///< Of pictures that the transformer sees beside.
  bool keeps_references = false;  ///< Their keys and values, in place of reading them every step.
  int encoded_rows = 0, encoded_columns = 0;  ///< Pixels of the largest picture that is encoded.
  int batch = 1;
  int passes = 1;                ///< 2 with guidance.
  bool encodes = true;           ///< Whether a prompt has to be encoded.
  bool needs_vae_early = false;  ///< For pictures to encode, or previews.
  VaeTiling vae_tiling = VaeTiling::automatic;
  NextRequest next = NextRequest::any;
  bool low_ram = false;
  std::uint64_t budget_bytes = 0;  ///< For the whole process, or of the GPU.

  std::uint64_t adapter_bytes = 0;  ///< Of LoRAs that are kept beside the weights.
  bool has_adapters = false;        ///< Whether some are on the transformer's layers.

  bool has_text_encoder = false;  ///< Whether an earlier request left it in memory.
};

/// What stays in memory, what goes after its use, and what is read again and again.
struct MemoryPlan {
  bool stream_text_encoder = false;  ///< Layer by layer; it is gone after the prompt.
  bool drop_text_encoder = false;    ///< After the prompt.
  int streamed_blocks = 0;           ///< Of the transformer, the last ones.
  int block_count = 0;
  std::uint64_t streamed_bytes = 0;  ///< Of those blocks, read at every step.
  bool drop_transformer = false;     ///< Before the decoder.
  bool load_at_once = true;          ///< Whether all parts may be loaded before the first works.
  VaePlan encode = {}, decode = {};

  // The most that each stage takes, of the whole process or of the GPU.
  std::uint64_t text_bytes = 0, encode_bytes = 0, step_bytes = 0, decode_bytes = 0;
  std::uint64_t budget_bytes = 0;
  bool is_notable = false;  ///< Whether something is done otherwise than where memory abounds.

  std::uint64_t peak_bytes() const;
  bool fits() const { return peak_bytes() <= budget_bytes; }

  MemoryReport report() const;

  /// "expected peak 5.9 GB of 8.0 GB; text encoder dropped after the prompt; ..."
  std::string describe() const;
};

/// Chooses what costs least time of all that keeps within the budget; where nothing does, the plan
/// that takes least, whose fits() says so.
///
/// Thread   device thread only
MemoryPlan plan_memory(const Checkpoint& checkpoint, const LoadOptions& options,
                       const ModelBytes& bytes, const Workload& work);

/// What one picture of this size takes where memory abounds, and the least that it can do with.
struct ExpectedPeak {
  std::uint64_t comfortable = 0, least = 0;
};

/// Units    pixels
/// Thread   device thread only
ExpectedPeak expected_peak(const Checkpoint& checkpoint, const LoadOptions& options, int width,
                           int height);

/// Throws Error(memory), saying how much it takes, unless the plan keeps within its budget;
/// `is_given` is whether a person set that.
void expect_fits(const MemoryPlan& plan, const Workload& work, int width, int height,
                 bool is_given);

}  // namespace klein::flux2
