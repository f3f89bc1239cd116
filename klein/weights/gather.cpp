// Safetensors files to stored tensors: which tensors are the scales of which.

#include <array>
#include <cstring>
#include <map>
#include <set>
#include <string_view>

#include <fmt/format.h>

#include "klein/core/error.h"
#include "klein/io/json.h"
#include "klein/weights/stored_tensor.h"

namespace klein::weights {
namespace {

using io::Dtype;
using quant::Format;
using quant::ScaleType;

struct Entry {
  const io::SafetensorsFile* file;
  const io::TensorInfo* info;
};
using Entries = std::map<std::string, Entry, std::less<>>;

/// What only scales the activations; the products here are computed in full precision.
constexpr std::array kActivationScales = {".input_scale", ".scale_input"};

class Gatherer {
 public:
  explicit Gatherer(std::span<const io::SafetensorsFile> files) {
    for (const auto& file : files)
      for (const auto& info : file.tensors()) {
        expect_countable(info.name, info.shape, file.path());
        entries_.insert_or_assign(info.name, Entry{&file, &info});
      }
  }

  std::vector<StoredTensor> all() {
    std::vector<StoredTensor> tensors;
    for (const auto& [name, entry] : entries_)
      if (name.ends_with(".weight")) tensors.push_back(weight(name, entry));
    for (const auto& [name, entry] : entries_)
      if (!name.ends_with(".weight") && !taken_.contains(name)) tensors.push_back(dense(entry));
    return tensors;
  }

 private:
  [[noreturn]] static void fail(ErrorKind kind, const Entry& at, const std::string& sentence) {
    throw Error(kind, fmt::format("expected {}: {}", sentence, at.file->path().string()));
  }

  static FileBytes bytes_of(const Entry& e) {
    return {e.file->file(), e.file->bytes(*e.info), e.info->dtype};
  }

  static StoredTensor dense(const Entry& e) {
    StoredTensor tensor;
    tensor.name = e.info->name;
    tensor.shape = e.info->shape;
    tensor.numbers = bytes_of(e);
    if (e.info->dtype == Dtype::float8_e4m3 || e.info->dtype == Dtype::float8_e5m2)
      tensor.layout = float8_layout(e.info->dtype);
    return tensor;
  }

  static quant::Layout float8_layout(Dtype dtype) {
    return {.format = dtype == Dtype::float8_e4m3 ? Format::fp8_e4m3 : Format::fp8_e5m2};
  }

  /// The tensor `stem + suffix`, which then counts as part of another.
  const Entry* take(const std::string& stem, std::string_view suffix) {
    const auto found = entries_.find(stem + std::string(suffix));
    if (found == entries_.end()) return nullptr;
    taken_.insert(found->first);
    return &found->second;
  }

  const Entry* take_first(const std::string& stem, std::initializer_list<const char*> suffixes) {
    for (const char* suffix : suffixes)
      if (const auto* entry = take(stem, suffix)) return entry;
    return nullptr;
  }

  StoredTensor weight(const std::string& name, const Entry& e) {
    const std::string stem = name.substr(0, name.size() - std::string_view(".weight").size());
    const auto asked = asked_format(stem);
    for (const char* suffix : kActivationScales) take(stem, suffix);
    auto tensor = dense(e);
    const auto dtype = e.info->dtype;
    if (dtype == Dtype::uint32) {
      mlx(tensor, stem, e);
    } else if (dtype == Dtype::uint8) {
      nvfp4(tensor, stem, e);
    } else if (dtype == Dtype::int8) {
      int8(tensor, stem, e);
    } else if (tensor.layout) {
      if (const auto* scale = take_first(stem, {".weight_scale", ".scale_weight"}))
        float8(tensor, *scale, e);
    }
    expect_countable(name, tensor.shape, e.file->path());
    check_asked(asked, tensor, e);
    return tensor;
  }

  /// The format that a `comfy_quant` tensor beside a weight names; empty without one.
  std::string asked_format(const std::string& stem) {
    const auto* entry = take(stem, ".comfy_quant");
    if (entry == nullptr) return {};
    const auto bytes = entry->file->bytes(*entry->info);
    const std::string where = entry->file->path().string() + " " + entry->info->name;
    const auto json =
        io::parse_json({reinterpret_cast<const char*>(bytes.data()), bytes.size()}, where);
    const io::JsonReader reader(json, where);
    std::string format;
    reader.require("format", format);
    bool rotated = false;
    reader.maybe("convrot", rotated);
    if (rotated)
      fail(ErrorKind::unsupported, *entry,
           fmt::format("weights that are not rotated, got convrot for {}", stem));
    return format;
  }

  static void check_asked(const std::string& asked, const StoredTensor& t, const Entry& e) {
    if (asked.empty()) return;
    static const std::map<std::string_view, Format> kNames = {{"float8_e4m3fn", Format::fp8_e4m3},
                                                              {"float8_e5m2", Format::fp8_e5m2},
                                                              {"nvfp4", Format::nvfp4},
                                                              {"mxfp8", Format::mxfp8},
                                                              {"int8_tensorwise", Format::int8}};
    const auto known = kNames.find(asked);
    if (known == kNames.end())
      fail(ErrorKind::unsupported, e,
           fmt::format("one of float8_e4m3fn, float8_e5m2, nvfp4, mxfp8, int8_tensorwise for {}, "
                       "got `{}`",
                       t.name, asked));
    if (!t.layout || t.layout->format != known->second)
      fail(ErrorKind::format, e, fmt::format("{} to hold {}, got {}", t.name, asked, t.encoding()));
  }

  static std::int64_t side(const Entry& e, std::size_t axis) {
    if (e.info->shape.size() != 2)
      fail(ErrorKind::shape, e,
           fmt::format("a matrix, got {} axes for {}", e.info->shape.size(), e.info->name));
    return e.info->shape[axis];
  }

  /// A scale for the matrix, [] or [1], or one for each row, [out] or [out, 1].
  static void set_row_scales(StoredTensor& tensor, const Entry& scale) {
    const auto& shape = scale.info->shape;
    std::int64_t count = 1;
    for (const auto extent : shape) count *= extent;
    const auto rows = tensor.shape.size() < 2 ? 1 : tensor.shape.front();
    const bool per_row =
        count == rows && (shape.size() == 1 || shape.size() == 2) && shape[0] == rows;
    if (count != 1 && !per_row)
      fail(ErrorKind::shape, scale,
           fmt::format("{} to hold one scale, or one for each of the {} rows, got {}",
                       scale.info->name, rows, describe(shape)));
    tensor.scales = bytes_of(scale);
    tensor.scales_per_row = count == 1 ? 0 : 1;
    tensor.layout->scale_type = scale_type(scale);
  }

  static ScaleType scale_type(const Entry& scale) {
    switch (scale.info->dtype) {
      case Dtype::float32:
        return ScaleType::float32;
      case Dtype::float16:
        return ScaleType::float16;
      case Dtype::bfloat16:
        return ScaleType::bfloat16;
      default:
        fail(ErrorKind::unsupported, scale,
             fmt::format("scales of type F32, F16 or BF16, got {} for {}",
                         io::dtype_name(scale.info->dtype), scale.info->name));
    }
  }

  void float8(StoredTensor& tensor, const Entry& scale, const Entry& e) {
    const bool in_blocks =
        scale.info->dtype == Dtype::uint8 || scale.info->dtype == Dtype::float8_e8m0;
    if (!in_blocks) {
      if (tensor.shape.empty()) side(e, 0);
      return set_row_scales(tensor, scale);
    }
    side(e, 0);
    tensor.layout = quant::Layout{
        .format = Format::mxfp8, .bits = 8, .group_size = 32, .scale_type = ScaleType::e8m0};
    set_block_scales(tensor, scale);
  }

  /// One scale for `group_size` columns; in tiles, which are padded to 128 rows and 4 columns.
  static void set_block_scales(StoredTensor& tensor, const Entry& scale) {
    const auto padded = [](std::int64_t n, std::int64_t to) { return (n + to - 1) / to * to; };
    const auto groups = tensor.shape[1] / tensor.layout->group_size;
    const auto wanted = padded(tensor.shape[0], 128) * padded(groups, 4);
    if (tensor.shape[1] % tensor.layout->group_size != 0 ||
        static_cast<std::int64_t>(scale.info->bytes()) != wanted)
      fail(ErrorKind::shape, scale,
           fmt::format("{} to hold {} scales in tiles of 128 x 4 for {} of {}, got {}",
                       scale.info->name, wanted, tensor.name, describe(tensor.shape),
                       describe(scale.info->shape)));
    tensor.scales = bytes_of(scale);
    tensor.scales_per_row = groups;
    tensor.tiled_scales = true;
  }

  void nvfp4(StoredTensor& tensor, const std::string& stem, const Entry& e) {
    const auto* scale = take(stem, ".weight_scale");
    const auto* global = take(stem, ".weight_scale_2");
    if (scale == nullptr || global == nullptr || scale->info->dtype != Dtype::float8_e4m3)
      fail(ErrorKind::format, e,
           fmt::format("weight_scale of type F8_E4M3 and weight_scale_2 beside the 4-bit {}",
                       e.info->name));
    if (global->info->dtype != Dtype::float32 || global->info->bytes() != 4)
      fail(ErrorKind::shape, *global, fmt::format("one F32 number for {}", global->info->name));
    tensor.shape = {side(e, 0), 2 * side(e, 1)};
    tensor.layout = quant::Layout{.format = Format::nvfp4,
                                  .bits = 4,
                                  .group_size = 16,
                                  .high_nibble_first = true,
                                  .scale_type = ScaleType::e4m3};
    set_block_scales(tensor, *scale);
    std::memcpy(&tensor.global_scale, global->file->bytes(*global->info).data(), sizeof(float));
    if (const auto* columns = take(stem, ".pre_quant_scale")) {
      static_cast<void>(scale_type(*columns));
      if (static_cast<std::int64_t>(columns->info->bytes()) !=
          tensor.shape[1] * static_cast<std::int64_t>(io::dtype_bytes(columns->info->dtype)))
        fail(ErrorKind::shape, *columns,
             fmt::format("{} numbers for {}", tensor.shape[1], columns->info->name));
      tensor.column_scales = bytes_of(*columns);
    }
  }

  void int8(StoredTensor& tensor, const std::string& stem, const Entry& e) {
    const auto* scale = take(stem, ".weight_scale");
    if (scale == nullptr)
      fail(ErrorKind::format, e, fmt::format("weight_scale beside the 8-bit {}", e.info->name));
    side(e, 0);
    tensor.layout = quant::Layout{.format = Format::int8};
    set_row_scales(tensor, *scale);
  }

  /// MLX's quantized layers. Neither bits nor group size are written down: with scales of float
  /// type the group is 64 where that gives a known width, else 32 or 128; with bytes the product of
  /// the two tells the format.
  void mlx(StoredTensor& tensor, const std::string& stem, const Entry& e) {
    const auto* scale = take(stem, ".scales");
    if (scale == nullptr)
      fail(ErrorKind::format, e, fmt::format("scales beside the packed {}", e.info->name));
    const auto* bias = take(stem, ".biases");
    const auto rows = side(e, 0), words = side(e, 1), groups = side(*scale, 1);
    if (side(*scale, 0) != rows || groups < 1 || words * 32 % groups != 0)
      fail(ErrorKind::shape, *scale,
           fmt::format("scales that fit {} of {}, got {}", e.info->name, describe(e.info->shape),
                       describe(scale->info->shape)));
    const auto group_bits = words * 32 / groups;
    tensor.layout = bias ? affine_layout(group_bits, *scale) : mx_layout(group_bits, *scale);
    tensor.shape = {rows, groups * tensor.layout->group_size};
    tensor.scales = bytes_of(*scale);
    tensor.scales_per_row = groups;
    if (bias == nullptr) return;
    if (bias->info->shape != scale->info->shape || bias->info->dtype != scale->info->dtype)
      fail(ErrorKind::shape, *bias, fmt::format("{} like its scales", bias->info->name));
    tensor.biases = bytes_of(*bias);
  }

  static quant::Layout affine_layout(std::int64_t group_bits, const Entry& scale) {
    for (const int group : {64, 32, 128})
      for (const int bits : {2, 3, 4, 5, 6, 8})
        if (group * bits == group_bits)
          return {.format = Format::affine,
                  .bits = bits,
                  .group_size = group,
                  .scale_type = scale_type(scale)};
    fail(ErrorKind::unsupported, scale,
         fmt::format("2 to 8 bits in groups of 32, 64 or 128, got {} bits a group for {}",
                     group_bits, scale.info->name));
  }

  static quant::Layout mx_layout(std::int64_t group_bits, const Entry& scale) {
    const bool bytes = scale.info->dtype == Dtype::uint8;
    if (bytes && group_bits == 32 * 8)
      return {.format = Format::mxfp8, .bits = 8, .group_size = 32, .scale_type = ScaleType::e8m0};
    if (bytes && group_bits == 32 * 4)
      return {.format = Format::mxfp4, .bits = 4, .group_size = 32, .scale_type = ScaleType::e8m0};
    if (bytes && group_bits == 16 * 4)
      return {.format = Format::nvfp4, .bits = 4, .group_size = 16, .scale_type = ScaleType::e4m3};
    fail(ErrorKind::unsupported, scale,
         fmt::format("biases, or scales of type U8 for MXFP8, MXFP4 or NVFP4, beside {}",
                     scale.info->name));
  }

  Entries entries_;
  std::set<std::string, std::less<>> taken_ = {"scaled_fp8"};  // a marker of older files
};

}  // namespace

std::vector<StoredTensor> gather_tensors(std::span<const io::SafetensorsFile> files) {
  return Gatherer(files).all();
}

}  // namespace klein::weights
