#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <map>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "klein/io/file.h"

namespace klein::io {

/// Element types of safetensors, in the order in which the reference implementation sorts them.
enum class Dtype {
  boolean,
  uint8,
  int8,
  float8_e5m2,
  float8_e4m3,
  float8_e8m0,
  int16,
  uint16,
  float16,
  bfloat16,
  int32,
  uint32,
  float32,
  float64,
  int64,
  uint64,
};

/// The name in a file: "BF16".
std::string_view dtype_name(Dtype dtype);

/// The type of a name, or nothing when the name is unknown.
std::optional<Dtype> parse_dtype(std::string_view name);

/// Bytes of one element.
std::size_t dtype_bytes(Dtype dtype);

/// One tensor of a file. `begin` and `end` are offsets from the start of the file, checked to lie
/// in it and to be exactly as far apart as shape and dtype say.
struct TensorInfo {
  std::string name;
  Dtype dtype = Dtype::float32;
  std::vector<std::int64_t> shape;  ///< Empty for a scalar; a side may be 0.
  std::uint64_t begin = 0;
  std::uint64_t end = 0;

  std::uint64_t bytes() const noexcept { return end - begin; }
};

/// A safetensors file, mapped; its header is checked in full before anything is handed out.
class SafetensorsFile {
 public:
  /// Errors   Error(format) listing every complaint: truncated or oversized header, broken JSON,
  ///          unknown dtype, wrong shape, offsets outside the file, overlap, hole, a name twice;
  ///          Error(not_found), Error(io) as MappedFile
  /// Thread   any; afterwards read-only
  static SafetensorsFile open(const std::filesystem::path& path, Access access = Access::read_only);

  /// In the order of their data.
  const std::vector<TensorInfo>& tensors() const noexcept { return tensors_; }

  /// The tensor of that name, or nullptr.
  const TensorInfo* find(std::string_view name) const;

  /// The header's `__metadata__`, empty when it has none.
  const std::map<std::string, std::string>& metadata() const noexcept { return metadata_; }

  /// The bytes of one of this file's tensors. Not aligned: a file may begin its data anywhere.
  std::span<const std::byte> bytes(const TensorInfo& tensor) const;

  /// Keep this to keep the bytes alive.
  const std::shared_ptr<const MappedFile>& file() const noexcept { return file_; }
  const std::filesystem::path& path() const noexcept { return file_->path(); }

 private:
  SafetensorsFile() = default;

  std::shared_ptr<const MappedFile> file_;
  std::vector<TensorInfo> tensors_;
  std::map<std::string, std::size_t, std::less<>> by_name_;
  std::map<std::string, std::string> metadata_;
};

/// All weights of one component's folder: one file, or an index and its shards.
class ShardedWeights {
 public:
  /// Reads `<stem>.safetensors.index.json` and the shards it names if there is one, else
  /// `<stem>.safetensors`. Links are followed; shards that are links have to end in the folder, or
  /// where the index ends that is a link too: a cache of the hub consists of them.
  ///
  /// Errors   Error(not_found) when neither is there, or naming every missing shard; Error(format)
  ///          when the index is broken, leads to a shard outside the folder, or disagrees with a
  ///          shard about which tensors it holds (all of them listed)
  /// Source   transformers and diffusers: `<name>.safetensors.index.json`, key weight_map
  static ShardedWeights open(const std::filesystem::path& folder, std::string_view stem,
                             Access access = Access::read_only);

  /// One file as if it were a component.
  static ShardedWeights open_file(const std::filesystem::path& path,
                                  Access access = Access::read_only);

  const std::vector<SafetensorsFile>& files() const noexcept { return files_; }

  /// Number of tensors in all files.
  std::size_t size() const noexcept;

  struct Entry {
    const SafetensorsFile* file = nullptr;
    const TensorInfo* tensor = nullptr;
    explicit operator bool() const noexcept { return tensor != nullptr; }
  };

  /// The tensor of that name and its file; empty when there is none.
  Entry find(std::string_view name) const;

  /// Bytes of all tensors.
  std::uint64_t bytes() const noexcept;

  /// The index, or the one file: what a message should name.
  const std::filesystem::path& path() const noexcept { return path_; }

 private:
  std::vector<SafetensorsFile> files_;
  std::filesystem::path path_;
};

/// A tensor of a file that is to be written.
struct TensorHeader {
  std::string name;
  Dtype dtype = Dtype::float32;
  std::vector<std::int64_t> shape;
};

/// Whether the reference implementation puts `a` before `b`: by dtype, wide ones first, then name.
bool comes_first(const TensorHeader& a, const TensorHeader& b);

/// A file that is written tensor by tensor, so that no two have to be in memory at once.
class SafetensorsWriter {
 public:
  /// Writes the header; `tensors` are in the order of comes_first.
  ///
  /// Errors   Error(usage) when a name is used twice, is reserved or is not UTF-8; Error(shape) for
  ///          a shape that is none; the rest as AtomicFile
  SafetensorsWriter(const std::filesystem::path& path, std::vector<TensorHeader> tensors,
                    const std::map<std::string, std::string>& metadata,
                    Overwrite overwrite = Overwrite::refuse);

  /// The numbers of the next tensor, contiguous, row-major, little-endian.
  ///
  /// Errors   Error(shape) when they are not those of its shape; as AtomicFile
  void write(std::span<const std::byte> data);

  /// Once all tensors are there; returns the file's name.
  std::filesystem::path commit();

 private:
  std::vector<TensorHeader> tensors_;
  std::filesystem::path path_;
  std::optional<AtomicFile> file_;
  std::size_t next_ = 0;
};

/// One tensor to write; `data` is contiguous, row-major, little-endian.
struct TensorView {
  std::string name;
  Dtype dtype = Dtype::float32;
  std::vector<std::int64_t> shape;
  std::span<const std::byte> data;
};

/// Writes a file as the reference implementation does (tensors by dtype, wide first, then name;
/// data from a multiple of 8 bytes on) and returns its name.
///
/// Errors   Error(shape) when shape and data disagree; the rest as SafetensorsWriter
/// Source   huggingface/safetensors, tensor.rs, prepare
std::filesystem::path write_safetensors(const std::filesystem::path& path,
                                        std::vector<TensorView> tensors,
                                        const std::map<std::string, std::string>& metadata = {},
                                        Overwrite overwrite = Overwrite::refuse);

}  // namespace klein::io
