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
#include <variant>
#include <vector>

#include "klein/io/file.h"
#include "klein/io/safetensors.h"

namespace klein::io {

/// One tensor of a GGUF file. `begin` and `end` are offsets from the start of the file, checked to
/// lie in it and to be exactly as far apart as shape and type say.
struct GgufTensor {
  std::string name;
  std::string type;                 ///< ggml's name, "Q4_K"; "type 99" when it is unknown here.
  std::optional<Dtype> dtype;       ///< Of plain numbers; unset where numbers come in blocks.
  std::vector<std::int64_t> shape;  ///< Row-major, a matrix as [out, in]: ggml's order reversed.
  std::uint64_t begin = 0;
  std::uint64_t end = 0;  ///< `begin` when the type is unknown.

  std::uint64_t bytes() const noexcept { return end - begin; }
};

/// A list of the metadata where it stands in the file, checked to lie in it.
struct GgufArray {
  std::uint32_t type = 0;  ///< GGUF's number for the type of an element.
  std::uint64_t count = 0;
  std::span<const std::byte> bytes;
};

/// A metadata value. Texts and lists point into the mapped file.
using GgufValue =
    std::variant<bool, std::uint64_t, std::int64_t, double, std::string_view, GgufArray>;

/// A GGUF file, mapped; its header is checked in full before anything is handed out.
///
/// Source   ggml, docs/gguf.md
class GgufFile {
 public:
  /// Errors   Error(format) when the header is truncated or broken, with every complaint about its
  ///          tensors: impossible shape, offset outside the file or not aligned, overlap, a name
  ///          twice; Error(unsupported) for a big-endian file and for versions other than 2 and 3;
  ///          Error(not_found), Error(io) as MappedFile
  /// Thread   any; afterwards read-only
  static GgufFile open(const std::filesystem::path& path, Access access = Access::read_only);

  /// In the order of their data.
  const std::vector<GgufTensor>& tensors() const noexcept { return tensors_; }

  /// The tensor of that name, or nullptr.
  const GgufTensor* find(std::string_view name) const;

  const std::map<std::string, GgufValue, std::less<>>& metadata() const noexcept {
    return metadata_;
  }

  /// The metadata's text of that name ("general.architecture"), or nothing when there is none.
  std::optional<std::string_view> text(std::string_view key) const;

  /// The bytes of one of this file's tensors. Not aligned: see SafetensorsFile.
  std::span<const std::byte> bytes(const GgufTensor& tensor) const;

  /// Keep this to keep the bytes, texts and lists alive.
  const std::shared_ptr<const MappedFile>& file() const noexcept { return file_; }
  const std::filesystem::path& path() const noexcept { return file_->path(); }

 private:
  GgufFile() = default;

  std::shared_ptr<const MappedFile> file_;
  std::vector<GgufTensor> tensors_;
  std::map<std::string, std::size_t, std::less<>> by_name_;
  std::map<std::string, GgufValue, std::less<>> metadata_;
};

}  // namespace klein::io
