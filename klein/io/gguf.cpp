#include "klein/io/gguf.h"

#include <algorithm>
#include <array>
#include <bit>
#include <cstring>
#include <limits>
#include <utility>

#include <fmt/format.h>

#include "klein/core/error.h"
#include "klein/io/complaints.h"
#include "klein/io/text.h"

namespace klein::io {

namespace {

constexpr const char* kWhat = "a GGUF file";
constexpr const char* kIncomplete = "The file is incomplete; fetch it again";
constexpr std::uint64_t kMaxEntries = 65536;    // metadata; tensors
constexpr std::uint64_t kMaxNameBytes = 65535;  // as the format says of keys
constexpr std::uint32_t kMaxSides = 4;          // as ggml has them
constexpr int kMaxDepth = 4;                    // lists in lists
constexpr std::uint64_t kUsualAlignment = 32;

struct TypeRow {
  std::uint32_t id;
  std::string_view name;
  int columns;  // of a block
  int bytes;
  std::optional<Dtype> dtype = std::nullopt;
};

/// Every type of ggml that a file may hold, decoded here or not: their sizes are what offsets are
/// checked with.
constexpr std::array kTypes = {
    TypeRow{0, "F32", 1, 4, Dtype::float32},
    TypeRow{1, "F16", 1, 2, Dtype::float16},
    TypeRow{2, "Q4_0", 32, 18},
    TypeRow{3, "Q4_1", 32, 20},
    TypeRow{6, "Q5_0", 32, 22},
    TypeRow{7, "Q5_1", 32, 24},
    TypeRow{8, "Q8_0", 32, 34},
    TypeRow{9, "Q8_1", 32, 40},
    TypeRow{10, "Q2_K", 256, 84},
    TypeRow{11, "Q3_K", 256, 110},
    TypeRow{12, "Q4_K", 256, 144},
    TypeRow{13, "Q5_K", 256, 176},
    TypeRow{14, "Q6_K", 256, 210},
    TypeRow{15, "Q8_K", 256, 292},
    TypeRow{16, "IQ2_XXS", 256, 66},
    TypeRow{17, "IQ2_XS", 256, 74},
    TypeRow{18, "IQ3_XXS", 256, 98},
    TypeRow{19, "IQ1_S", 256, 50},
    TypeRow{20, "IQ4_NL", 32, 18},
    TypeRow{21, "IQ3_S", 256, 110},
    TypeRow{22, "IQ2_S", 256, 82},
    TypeRow{23, "IQ4_XS", 256, 136},
    TypeRow{24, "I8", 1, 1, Dtype::int8},
    TypeRow{25, "I16", 1, 2, Dtype::int16},
    TypeRow{26, "I32", 1, 4, Dtype::int32},
    TypeRow{27, "I64", 1, 8, Dtype::int64},
    TypeRow{28, "F64", 1, 8, Dtype::float64},
    TypeRow{29, "IQ1_M", 256, 56},
    TypeRow{30, "BF16", 1, 2, Dtype::bfloat16},
    TypeRow{34, "TQ1_0", 256, 54},
    TypeRow{35, "TQ2_0", 256, 66},
    TypeRow{39, "MXFP4", 32, 17},
    TypeRow{40, "NVFP4", 64, 36},
    TypeRow{41, "Q1_0", 128, 18},
};

const TypeRow* type_of(std::uint32_t id) {
  const auto* found =
      std::find_if(kTypes.begin(), kTypes.end(), [&](const TypeRow& row) { return row.id == id; });
  return found == kTypes.end() ? nullptr : found;
}

/// GGUF's own types of metadata.
enum ValueType : std::uint32_t {
  kUint8,
  kInt8,
  kUint16,
  kInt16,
  kUint32,
  kInt32,
  kFloat32,
  kBool,
  kString,
  kArray,
  kUint64,
  kInt64,
  kFloat64,
};

/// Bytes of a value of fixed size; 0 for texts, lists and unknown types.
std::uint64_t value_bytes(std::uint32_t type) {
  constexpr std::array<std::uint64_t, 13> kBytes = {1, 1, 2, 2, 4, 4, 4, 1, 0, 0, 8, 8, 8};
  return type < kBytes.size() ? kBytes[type] : 0;
}

[[noreturn]] void fail(const MappedFile& file, const std::string& got, std::string hint = {}) {
  throw Error(ErrorKind::format,
              fmt::format("expected {}, got {}: {}", kWhat, got, file.path().string()),
              std::move(hint));
}

/// Reads the header front to back; nothing is read that does not lie in the file.
class Cursor {
 public:
  explicit Cursor(const MappedFile& file) : file_(file) {}

  std::uint64_t at() const { return at_; }
  const MappedFile& file() const { return file_; }

  std::span<const std::byte> take(std::uint64_t bytes, std::string_view what) {
    if (bytes > file_.size() - at_)
      fail(file_, fmt::format("{} of {} bytes where {} are left", what, bytes, file_.size() - at_),
           kIncomplete);
    const auto taken = file_.bytes().subspan(at_, bytes);
    at_ += bytes;
    return taken;
  }

  template <typename T>
  T number(std::string_view what) {
    T value;
    std::memcpy(&value, take(sizeof(T), what).data(), sizeof(T));
    return value;
  }

  std::string_view text(std::string_view what) {
    const auto bytes = take(number<std::uint64_t>(what), what);
    return {reinterpret_cast<const char*>(bytes.data()), bytes.size()};
  }

  /// The name of a tensor or of a metadata value.
  std::string name(std::string_view what) {
    const auto text = this->text(what);
    if (text.size() > kMaxNameBytes)
      fail(file_, fmt::format("{} of {} bytes where at most {} are allowed", what, text.size(),
                              kMaxNameBytes));
    return std::string(text);
  }

 private:
  const MappedFile& file_;
  std::uint64_t at_ = 0;
};

/// Walks over the elements of a list.
GgufArray read_array(Cursor& in, const std::string& what, int depth) {
  if (depth > kMaxDepth)
    fail(in.file(), fmt::format("{} with lists nested more than {} deep", what, kMaxDepth));
  GgufArray array;
  array.type = in.number<std::uint32_t>(what);
  array.count = in.number<std::uint64_t>(what);
  const std::uint64_t begin = in.at();
  if (const auto each = value_bytes(array.type); each > 0) {
    if (array.count > in.file().size() / each)
      fail(in.file(), fmt::format("{} with {} elements in a file of {} bytes", what, array.count,
                                  in.file().size()));
    in.take(array.count * each, what);
  } else if (array.type == kString) {
    for (std::uint64_t i = 0; i < array.count; ++i) in.text(what);
  } else if (array.type == kArray) {
    for (std::uint64_t i = 0; i < array.count; ++i) read_array(in, what, depth + 1);
  } else {
    fail(in.file(), fmt::format("{} as a list of the unknown type {}", what, array.type));
  }
  array.bytes = in.file().bytes().subspan(begin, in.at() - begin);
  return array;
}

GgufValue read_value(Cursor& in, const std::string& what) {
  const auto whole = [](std::uint64_t x) { return GgufValue(x); };
  const auto with_sign = [](std::int64_t x) { return GgufValue(x); };
  switch (const auto type = in.number<std::uint32_t>(what); type) {
    case kUint8:
      return whole(in.number<std::uint8_t>(what));
    case kInt8:
      return with_sign(in.number<std::int8_t>(what));
    case kUint16:
      return whole(in.number<std::uint16_t>(what));
    case kInt16:
      return with_sign(in.number<std::int16_t>(what));
    case kUint32:
      return whole(in.number<std::uint32_t>(what));
    case kInt32:
      return with_sign(in.number<std::int32_t>(what));
    case kUint64:
      return whole(in.number<std::uint64_t>(what));
    case kInt64:
      return with_sign(in.number<std::int64_t>(what));
    case kFloat32:
      return double{in.number<float>(what)};
    case kFloat64:
      return in.number<double>(what);
    case kString:
      return in.text(what);
    case kArray:
      return read_array(in, what, 1);
    case kBool: {
      const auto value = in.number<std::uint8_t>(what);
      if (value > 1) fail(in.file(), fmt::format("{} as the truth value {}", what, value));
      return value == 1;
    }
    default:
      fail(in.file(), fmt::format("{} of the unknown type {}", what, type));
  }
}

struct Counts {
  std::uint64_t tensors = 0, values = 0;
};

/// Magic, version, and how much follows.
Counts read_counts(Cursor& in) {
  const auto& file = in.file();
  const std::string_view start(reinterpret_cast<const char*>(file.data()),
                               std::min<std::uint64_t>(file.size(), 64));
  if (start.starts_with("version https://git-lfs"))
    fail(file, "a Git LFS pointer", "Run `git lfs pull` in that folder to fetch the file");
  if (!start.starts_with("GGUF"))
    fail(file, "a file that starts with " + in_quotes(start.substr(0, 4)));
  in.take(4, "the magic");
  const auto version = in.number<std::uint32_t>("the version");
  if (version != 0 && (version & 0xffffu) == 0)
    throw Error(
        ErrorKind::unsupported,
        "expected a little-endian GGUF file, got a big-endian one: " + file.path().string());
  if (version != 2 && version != 3)
    throw Error(ErrorKind::unsupported, fmt::format("expected GGUF version 2 or 3, got {}: {}",
                                                    version, file.path().string()));
  const Counts counts{in.number<std::uint64_t>("the number of tensors"),
                      in.number<std::uint64_t>("the number of metadata values")};
  for (const auto& [count, of] :
       {std::pair(counts.tensors, "tensors"), std::pair(counts.values, "metadata values")})
    if (count > kMaxEntries)
      fail(file, fmt::format("{} {} where at most {} are allowed", count, of, kMaxEntries));
  return counts;
}

/// Checks the tensors one by one and then against each other.
class TensorReader {
 public:
  explicit TensorReader(Cursor& in) : in_(in) {}

  /// One entry; its offset counts from where the data will begin.
  void read() {
    GgufTensor tensor;
    tensor.name = in_.name("a tensor's name");
    const std::string shown = '`' + printable(tensor.name) + '`';
    const auto sides = in_.number<std::uint32_t>(shown);
    if (sides > kMaxSides)
      fail(in_.file(),
           fmt::format("{} with {} sides where at most {} are allowed", shown, sides, kMaxSides));
    bool shaped = true;
    for (std::uint32_t i = 0; i < sides; ++i) {
      const auto side = in_.number<std::uint64_t>(shown);
      if (side > static_cast<std::uint64_t>(std::numeric_limits<std::int64_t>::max())) {
        shaped = false;
        complaints_.add(fmt::format("{} with {} as a side", shown, side));
      }
      tensor.shape.insert(tensor.shape.begin(), static_cast<std::int64_t>(side));
    }
    const auto type = in_.number<std::uint32_t>(shown);
    tensor.begin = in_.number<std::uint64_t>(shown);
    if (const auto bytes = shaped ? size(shown, tensor, type) : std::nullopt)
      entries_.push_back({std::move(tensor), *bytes});
  }

  /// The tensors in the order of their data, which starts at `data_begin`.
  std::vector<GgufTensor> finish(std::uint64_t data_begin, std::uint64_t alignment) {
    const std::uint64_t data_bytes =
        in_.file().size() > data_begin ? in_.file().size() - data_begin : 0;
    std::vector<GgufTensor> tensors;
    for (auto& [tensor, bytes] : entries_) {
      const std::string shown = '`' + printable(tensor.name) + '`';
      if (tensor.begin % alignment != 0) {
        complaints_.add(fmt::format("{} at byte {}, no multiple of the alignment {}", shown,
                                    tensor.begin, alignment));
      } else if (tensor.begin > data_bytes || bytes > data_bytes - tensor.begin) {
        truncated_ = true;
        complaints_.add(fmt::format("{} with {} bytes at byte {} of {} bytes of data", shown, bytes,
                                    tensor.begin, data_bytes));
      } else {
        tensor.begin += data_begin;
        tensor.end = tensor.begin + bytes;
        tensors.push_back(std::move(tensor));
      }
    }
    std::stable_sort(tensors.begin(), tensors.end(),
                     [](const auto& a, const auto& b) { return a.begin < b.begin; });
    const GgufTensor* last = nullptr;
    for (const auto& tensor : tensors) {
      if (last != nullptr && tensor.begin < last->end && tensor.bytes() > 0)
        complaints_.add(fmt::format("`{}` over the bytes of `{}`", printable(tensor.name),
                                    printable(last->name)));
      if (last == nullptr || tensor.end >= last->end) last = &tensor;
    }
    complaints_.throw_if_any(kWhat, in_.file().path(), truncated_ ? kIncomplete : "");
    return tensors;
  }

  void repeated(const std::string& name) {
    complaints_.add(fmt::format("`{}` twice", printable(name)));
  }

 private:
  /// Bytes of a tensor, 0 when its type is unknown; nothing when its shape is impossible.
  std::optional<std::uint64_t> size(const std::string& shown, GgufTensor& tensor,
                                    std::uint32_t type) {
    const auto* row = type_of(type);
    if (row == nullptr) {
      tensor.type = fmt::format("type {}", type);
      return 0;
    }
    tensor.type = row->name;
    tensor.dtype = row->dtype;
    const auto described = fmt::format("{} [{}]", tensor.type, fmt::join(tensor.shape, ", "));
    const std::int64_t columns = tensor.shape.empty() ? 1 : tensor.shape.back();
    if (columns % row->columns != 0) {
      complaints_.add(
          fmt::format("{} as {} where {} columns make a block", shown, described, row->columns));
      return std::nullopt;
    }
    auto bytes = static_cast<std::uint64_t>(columns / row->columns);
    bool fits = !__builtin_mul_overflow(bytes, static_cast<std::uint64_t>(row->bytes), &bytes);
    for (std::size_t i = 0; fits && i + 1 < tensor.shape.size(); ++i)
      fits = !__builtin_mul_overflow(bytes, static_cast<std::uint64_t>(tensor.shape[i]), &bytes);
    if (fits) return bytes;
    complaints_.add(fmt::format("{} of the impossible size {}", shown, described));
    return std::nullopt;
  }

  struct Entry {
    GgufTensor tensor;
    std::uint64_t bytes;
  };

  Cursor& in_;
  Complaints complaints_;
  std::vector<Entry> entries_;
  bool truncated_ = false;
};

std::uint64_t alignment_in(const std::map<std::string, GgufValue, std::less<>>& metadata,
                           const MappedFile& file) {
  const auto found = metadata.find("general.alignment");
  if (found == metadata.end()) return kUsualAlignment;
  const auto* value = std::get_if<std::uint64_t>(&found->second);
  if (value == nullptr || !std::has_single_bit(*value) || *value > kMaxEntries)
    fail(file, "`general.alignment` that is no power of two up to 65536");
  return *value;
}

}  // namespace

GgufFile GgufFile::open(const std::filesystem::path& path, Access access) {
  static_assert(std::endian::native == std::endian::little);
  GgufFile result;
  result.file_ = std::make_shared<const MappedFile>(MappedFile::open(path, access));
  Cursor in(*result.file_);
  const Counts counts = read_counts(in);
  TensorReader reader(in);
  for (std::uint64_t i = 0; i < counts.values; ++i) {
    const auto key = in.name("a metadata key");
    const auto value = read_value(in, '`' + printable(key) + '`');
    if (!result.metadata_.emplace(key, value).second) reader.repeated(key);
  }
  for (std::uint64_t i = 0; i < counts.tensors; ++i) reader.read();

  const std::uint64_t alignment = alignment_in(result.metadata_, *result.file_);
  result.tensors_ = reader.finish((in.at() + alignment - 1) / alignment * alignment, alignment);
  for (std::size_t i = 0; i < result.tensors_.size(); ++i)
    if (!result.by_name_.emplace(result.tensors_[i].name, i).second)
      fail(*result.file_, fmt::format("`{}` twice", printable(result.tensors_[i].name)));
  return result;
}

const GgufTensor* GgufFile::find(std::string_view name) const {
  const auto found = by_name_.find(name);
  return found == by_name_.end() ? nullptr : &tensors_[found->second];
}

std::optional<std::string_view> GgufFile::text(std::string_view key) const {
  const auto found = metadata_.find(key);
  if (found == metadata_.end()) return std::nullopt;
  const auto* value = std::get_if<std::string_view>(&found->second);
  return value ? std::optional(*value) : std::nullopt;
}

std::span<const std::byte> GgufFile::bytes(const GgufTensor& tensor) const {
  return file_->bytes().subspan(tensor.begin, tensor.bytes());
}

}  // namespace klein::io
