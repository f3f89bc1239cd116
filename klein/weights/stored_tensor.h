#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "klein/io/file.h"
#include "klein/io/safetensors.h"
#include "klein/quant/packed.h"
#include "klein/weights/renaming.h"

namespace klein::weights {

/// Bytes of a mapped file.
struct FileBytes {
  std::shared_ptr<const io::MappedFile> file;
  std::span<const std::byte> bytes;
  io::Dtype dtype = io::Dtype::uint8;
};

/// Hints at the use of the pages that hold these bytes.
void advise(const FileBytes& part, io::Advice advice) noexcept;

/// A tensor as its file holds it: dense numbers, or a matrix in few bits with the scales that stand
/// under names of their own.
struct StoredTensor {
  std::string name;  ///< In the file; of a packed matrix the name of its codes.
  Shape shape;       ///< Of the numbers, whatever they are packed in.
  FileBytes numbers;
  std::optional<quant::Layout> layout;  ///< Set for a packed matrix.
  FileBytes scales, biases, column_scales;
  std::int64_t scales_per_row = 0;  ///< 0: one for the whole matrix, or none.
  bool tiled_scales = false;        ///< They lie as quant::untile_scales says.
  float global_scale = 1.0f;

  /// "BF16", "Q4_K", "affine 4-bit": for tables.
  std::string encoding() const;

  /// In the file, scales included.
  std::uint64_t bytes() const;

  /// Hints at the use of all its pages.
  void advise(io::Advice advice) const noexcept;
};

/// The weight files of one part of a model, headers read and checked.
struct WeightFiles {
  std::filesystem::path path;  ///< The file or index: what a message should name.
  std::vector<StoredTensor> tensors;
  std::string saved_by;  ///< The version of mflux that a file's metadata names; empty otherwise.

  /// Opens one .safetensors or .gguf file.
  ///
  /// Errors   as io::SafetensorsFile and io::GgufFile; Error(format), Error(shape) and
  ///          Error(unsupported) for quantized tensors whose scales are missing or do not fit, and
  ///          for encodings that nobody here knows
  static WeightFiles open(const std::filesystem::path& file);

  /// Opens the weights of a folder: the index `<stem>.safetensors.index.json` and its shards, or
  /// `<stem>.safetensors`, with stem "diffusion_pytorch_model" or "model"; else all of the files
  /// 0.safetensors, 1.safetensors, ...; else its only .safetensors or .gguf file.
  ///
  /// Errors   as open; Error(not_found) when there are none, or a shard is missing
  static WeightFiles open_folder(const std::filesystem::path& folder);

  /// Shapes by name.
  Shapes shapes() const;
  std::uint64_t bytes() const;
};

/// "[3072, 7680]"
std::string describe(const Shape& shape);

/// Refuses shapes that arrays cannot have: a side above 2^31 - 1, or more numbers than 64 bits
/// count. A file without the bytes for it can state them, beside a side of 0.
///
/// Errors   Error(unsupported)
void expect_countable(const std::string& name, const Shape& shape,
                      const std::filesystem::path& file);

/// Puts tensors of safetensors files together: codes with the scales that lie beside them.
///
/// Knows the spellings of BFL (weight_scale, input_scale, weight_scale_2), of ComfyUI
/// (scale_weight, scale_input, scaled_fp8, comfy_quant) and of MLX (scales, biases).
std::vector<StoredTensor> gather_tensors(std::span<const io::SafetensorsFile> files);

}  // namespace klein::weights
