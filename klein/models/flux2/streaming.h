#pragma once

#include <deque>
#include <span>
#include <utility>
#include <vector>

#include "klein/models/flux2/checkpoint.h"
#include "klein/models/flux2/transformer.h"
#include "klein/models/qwen3/text_encoder.h"
#include "klein/tensor/mlx.h"
#include "klein/tensor/pace.h"
#include "klein/weights/adapters.h"

/// Networks block by block. A block that is not to stay is built from its file, runs, and goes with
/// the pages that it was read from, while the system reads the next one. What they compute equals
/// what the whole networks compute, bit for bit.
namespace klein::flux2 {

/// As Transformer, with none, some or all of its blocks on disk.
class StreamedTransformer {
 public:
  /// The first `resident_blocks` blocks, double-stream ones first, stay in memory.
  ///
  /// Errors   as Checkpoint::load_transformer
  StreamedTransformer(const Checkpoint& checkpoint, const LoadOptions& options,
                      int resident_blocks);

  /// Computes once what passes with these timesteps and prompts share: what the timesteps do to the
  /// blocks, and the prompts' first layer. What the last call was given serves again. Passes with
  /// others work too.
  void prepare(const std::vector<mx::array>& timesteps,
               const std::vector<mx::array>& prompt_embeds);

  /// The velocities of several passes; a block is read once for all of them, and evaluated in a
  /// pace that the caller may share with what comes before and after.
  ///
  /// Errors   as Transformer's operator()
  std::vector<mx::array> operator()(std::span<const TransformerInput> passes, Pace& pace) const;
  std::vector<mx::array> operator()(std::span<const TransformerInput> passes) const;

  /// What the blocks keep of reference pictures, evaluated; `rope` is that of their tokens alone.
  ///
  /// Shapes   tokens [1, R, in_channels]
  KvCache read_references(const mx::array& tokens, const nn::RopeTables& rope) const;

  /// As Transformer's; the last tables serve again.
  const nn::RopeTables& rope(int text_length, const std::vector<nn::PositionId>& image_ids) const;

  int streamed_blocks() const { return static_cast<int>(streamed_.size()); }

  /// Puts these on the layers in the place of earlier ones; on those of a streamed block whenever
  /// it is built.
  void set_adapters(const weights::AdapterMap& adapters);

 private:
  struct Pass;
  struct KeptRope {
    int text_length;
    std::vector<nn::PositionId> image_ids;
    nn::RopeTables tables;
  };
  Transformer::Conditioning condition(const TransformerInput& input) const;
  mx::array embed_text(const mx::array& prompt_embeds) const;
  template <typename Block, typename Run>
  void run_blocks(const std::vector<Block>& resident, std::size_t begin, std::size_t end,
                  Pace& pace, const Run& run) const;

  LoadOptions options_;
  Transformer stem_;  ///< What is in no block, and the blocks that stay.
  weights::AdapterMap adapters_;
  std::vector<std::pair<mx::array, Transformer::Conditioning>> conditionings_;  ///< By timestep.
  std::vector<std::pair<mx::array, mx::array>> texts_;                          ///< By prompt.
  mutable std::deque<KeptRope> ropes_;  ///< Newest first; one thread owns all arrays.
  std::vector<PartSource> streamed_;    ///< The other blocks, double-stream ones first.
  std::size_t double_count_ = 0;        ///< Of streamed_.
};

/// As qwen3::TextEncoder, with its layers on disk.
class StreamedTextEncoder {
 public:
  /// Errors   as Checkpoint::load_text_encoder
  StreamedTextEncoder(const Checkpoint& checkpoint, const LoadOptions& options);

  /// The features of each prompt by itself, evaluated; a layer is read once for all of them.
  ///
  /// Shapes   -> [1, L, out_layers * hidden] each
  /// Errors   as qwen3::TextEncoder's operator()
  std::vector<mx::array> operator()(std::span<const qwen3::TokenRow> prompts) const;

  /// As StreamedTransformer's.
  void set_adapters(const weights::AdapterMap& adapters) { adapters_ = adapters; }

 private:
  qwen3::TextEncoderConfig config_;
  LoadOptions options_;
  qwen3::TextEncoder stem_;  ///< Without layers.
  weights::AdapterMap adapters_;
  std::vector<PartSource> layers_;
};

}  // namespace klein::flux2
