#include "klein/io/safetensors.h"

#include <algorithm>
#include <array>
#include <limits>
#include <tuple>
#include <utility>

#include <fmt/format.h>

#include "klein/core/error.h"
#include "klein/io/complaints.h"
#include "klein/io/json.h"
#include "klein/io/text.h"

namespace klein::io {

namespace {

using Json = nlohmann::json;

constexpr std::uint64_t kPrefixBytes = 8;  // the header's length, little-endian
constexpr std::uint64_t kMaxHeaderBytes = 100'000'000;
constexpr const char* kMetadata = "__metadata__";
constexpr const char* kWhat = "a safetensors file";

struct DtypeRow {
  std::string_view name;
  std::size_t bytes;
};

/// In the order of the enumeration.
constexpr std::array<DtypeRow, 16> kDtypes{{{"BOOL", 1},
                                            {"U8", 1},
                                            {"I8", 1},
                                            {"F8_E5M2", 1},
                                            {"F8_E4M3", 1},
                                            {"F8_E8M0", 1},
                                            {"I16", 2},
                                            {"U16", 2},
                                            {"F16", 2},
                                            {"BF16", 2},
                                            {"I32", 4},
                                            {"U32", 4},
                                            {"F32", 4},
                                            {"F64", 8},
                                            {"I64", 8},
                                            {"U64", 8}}};

[[noreturn]] void fail(const MappedFile& file, const std::string& got, std::string hint = {}) {
  throw Error(ErrorKind::format,
              fmt::format("expected {}, {}: {}", kWhat, got, file.path().string()),
              std::move(hint));
}

/// The JSON text of the header, inside the file.
std::string_view header_text(const MappedFile& file) {
  const auto* data = reinterpret_cast<const char*>(file.data());
  const std::string_view start(data, std::min<std::uint64_t>(file.size(), 64));
  if (start.starts_with("version https://git-lfs"))
    fail(file, "got a Git LFS pointer", "Run `git lfs pull` in that folder to fetch the file");
  if (file.size() < kPrefixBytes)
    fail(file, fmt::format("got {} bytes where its header length takes 8", file.size()));
  std::uint64_t length = 0;
  for (std::size_t i = kPrefixBytes; i-- > 0;)
    length = length << 8 | static_cast<unsigned char>(data[i]);
  if (length > kMaxHeaderBytes)
    fail(file, fmt::format("got a header of {} bytes where at most {} are allowed", length,
                           kMaxHeaderBytes));
  if (length > file.size() - kPrefixBytes)
    fail(file,
         fmt::format("expected {} bytes of header, the file has {}", length,
                     file.size() - kPrefixBytes),
         "The file is incomplete; fetch it again");
  const std::string_view text(data + kPrefixBytes, length);
  if (!text.starts_with('{'))
    fail(file, fmt::format("got a header that starts with {} instead of {{",
                           in_quotes(text.substr(0, 1))));
  return text;
}

/// A whole number from 0 to 2^63 - 1, as every number of a header is.
std::optional<std::uint64_t> count_in(const Json& value) {
  if (!value.is_number_unsigned()) return std::nullopt;
  const auto number = value.get<std::uint64_t>();
  if (number > static_cast<std::uint64_t>(std::numeric_limits<std::int64_t>::max()))
    return std::nullopt;
  return number;
}

/// Bytes of a tensor, or nothing when they do not fit 64 bits.
std::optional<std::uint64_t> byte_count(const std::vector<std::int64_t>& shape, Dtype dtype) {
  std::uint64_t bytes = dtype_bytes(dtype);
  for (const auto side : shape)
    if (__builtin_mul_overflow(bytes, static_cast<std::uint64_t>(side), &bytes))
      return std::nullopt;
  return bytes;
}

/// Checks the entries of one header, tensor by tensor and then against each other.
class HeaderReader {
 public:
  HeaderReader(const MappedFile& file, std::uint64_t data_begin)
      : file_(file), data_begin_(data_begin), data_bytes_(file.size() - data_begin) {}

  void read_tensor(const std::string& name, const Json& entry) {
    const std::string shown = '`' + printable(name) + '`';
    if (!entry.is_object())
      return complaints_.add(shown + " as " + describe(entry) + " instead of an object");
    TensorInfo tensor;
    tensor.name = name;
    const bool typed = read_dtype(shown, entry, tensor);
    const bool shaped = read_shape(shown, entry, tensor);
    const bool placed = read_offsets(shown, entry, tensor);
    if (!placed) all_placed_ = false;
    if (typed && shaped && placed) check_size(shown, tensor);
    if (placed) tensors_.push_back(std::move(tensor));
  }

  void read_metadata(const Json& entry, std::map<std::string, std::string>& metadata) {
    if (entry.is_null()) return;  // the reference implementation takes null for none
    if (!entry.is_object())
      return complaints_.add(
          fmt::format("`{}` as {} instead of an object", kMetadata, describe(entry)));
    for (const auto& [key, value] : entry.items()) {
      if (value.is_string())
        metadata[key] = value.get<std::string>();
      else
        complaints_.add(fmt::format("`{}.{}` as {} instead of a text", kMetadata, printable(key),
                                    describe(value)));
    }
  }

  void repeated(const std::string& name) {
    complaints_.add(fmt::format("`{}` twice", printable(name)));
  }

  /// The tensors in the order of their data, which they cover without overlap or hole.
  std::vector<TensorInfo> finish() {
    std::sort(tensors_.begin(), tensors_.end(), [](const auto& a, const auto& b) {
      return std::tie(a.begin, a.end, a.name) < std::tie(b.begin, b.end, b.name);
    });
    std::uint64_t covered = data_begin_;
    const TensorInfo* last = nullptr;
    for (const auto& tensor : tensors_) {
      if (tensor.begin < covered)
        complaints_.add(fmt::format("`{}` over the bytes of `{}`", printable(tensor.name),
                                    printable(last->name)));
      else if (tensor.begin > covered && all_placed_)
        complaints_.add(fmt::format("{} bytes before `{}` that belong to no tensor",
                                    tensor.begin - covered, printable(tensor.name)));
      if (last == nullptr || tensor.end >= covered) last = &tensor;
      covered = std::max(covered, tensor.end);
    }
    if (covered < file_.size() && all_placed_)
      complaints_.add(
          fmt::format("{} bytes at its end that belong to no tensor", file_.size() - covered));
    complaints_.throw_if_any(kWhat, file_.path(),
                             truncated_ ? "The file is incomplete; fetch it again" : "");
    return std::move(tensors_);
  }

 private:
  bool read_dtype(const std::string& shown, const Json& entry, TensorInfo& tensor) {
    const auto found = entry.find("dtype");
    if (found == entry.end() || !found->is_string()) {
      complaints_.add(shown + " without a dtype");
      return false;
    }
    const auto& name = found->get_ref<const std::string&>();
    const auto dtype = parse_dtype(name);
    if (dtype)
      tensor.dtype = *dtype;
    else
      complaints_.add(shown + " with the unknown dtype " + in_quotes(name));
    return dtype.has_value();
  }

  bool read_shape(const std::string& shown, const Json& entry, TensorInfo& tensor) {
    const auto found = entry.find("shape");
    if (found == entry.end() || !found->is_array()) {
      complaints_.add(shown + " without a shape");
      return false;
    }
    for (const auto& side : *found) {
      const auto count = count_in(side);
      if (!count) {
        complaints_.add(fmt::format("{} with {} as a side", shown, describe(side)));
        return false;
      }
      tensor.shape.push_back(static_cast<std::int64_t>(*count));
    }
    return true;
  }

  bool read_offsets(const std::string& shown, const Json& entry, TensorInfo& tensor) {
    const auto found = entry.find("data_offsets");
    const bool is_pair = found != entry.end() && found->is_array() && found->size() == 2;
    const auto begin = is_pair ? count_in((*found)[0]) : std::nullopt;
    const auto end = is_pair ? count_in((*found)[1]) : std::nullopt;
    if (!begin || !end) {
      complaints_.add(shown + " without two data_offsets");
      return false;
    }
    if (*begin > *end) {
      complaints_.add(fmt::format("{} from byte {} to {}", shown, *begin, *end));
      return false;
    }
    if (*end > data_bytes_) {
      truncated_ = true;
      complaints_.add(
          fmt::format("{} up to byte {} of {} bytes of data", shown, *end, data_bytes_));
      return false;
    }
    tensor.begin = data_begin_ + *begin;
    tensor.end = data_begin_ + *end;
    return true;
  }

  void check_size(const std::string& shown, const TensorInfo& tensor) {
    const auto bytes = byte_count(tensor.shape, tensor.dtype);
    const auto type =
        fmt::format("{} [{}]", dtype_name(tensor.dtype), fmt::join(tensor.shape, ", "));
    if (!bytes)
      complaints_.add(fmt::format("{} of the impossible size {}", shown, printable(type)));
    else if (*bytes != tensor.bytes())
      complaints_.add(fmt::format("{} with {} bytes where {} takes {}", shown, tensor.bytes(),
                                  printable(type), *bytes));
  }

  const MappedFile& file_;
  std::uint64_t data_begin_;
  std::uint64_t data_bytes_;
  Complaints complaints_;
  std::vector<TensorInfo> tensors_;
  bool all_placed_ = true;
  bool truncated_ = false;
};

}  // namespace

std::string_view dtype_name(Dtype dtype) {
  return kDtypes[static_cast<std::size_t>(dtype)].name;
}

std::size_t dtype_bytes(Dtype dtype) {
  return kDtypes[static_cast<std::size_t>(dtype)].bytes;
}

std::optional<Dtype> parse_dtype(std::string_view name) {
  for (std::size_t i = 0; i < kDtypes.size(); ++i)
    if (kDtypes[i].name == name) return static_cast<Dtype>(i);
  return std::nullopt;
}

SafetensorsFile SafetensorsFile::open(const std::filesystem::path& path, Access access) {
  SafetensorsFile result;
  result.file_ = std::make_shared<const MappedFile>(MappedFile::open(path, access));
  const std::string_view text = header_text(*result.file_);
  std::vector<std::string> repeated;
  const Json header = parse_json(text, path.string() + " (header)", &repeated);

  HeaderReader reader(*result.file_, kPrefixBytes + text.size());
  for (const auto& name : repeated) reader.repeated(name);
  for (const auto& [name, entry] : header.items()) {
    if (name == kMetadata)
      reader.read_metadata(entry, result.metadata_);
    else
      reader.read_tensor(name, entry);
  }
  result.tensors_ = reader.finish();
  for (std::size_t i = 0; i < result.tensors_.size(); ++i)
    result.by_name_.emplace(result.tensors_[i].name, i);
  return result;
}

const TensorInfo* SafetensorsFile::find(std::string_view name) const {
  const auto found = by_name_.find(name);
  return found == by_name_.end() ? nullptr : &tensors_[found->second];
}

std::span<const std::byte> SafetensorsFile::bytes(const TensorInfo& tensor) const {
  return file_->bytes().subspan(tensor.begin, tensor.bytes());
}

}  // namespace klein::io
