// Tensors of a LoRA's file, put together to layers.

#include <algorithm>
#include <array>
#include <cstdint>
#include <optional>
#include <string_view>

#include <fmt/format.h>

#include "klein/core/error.h"
#include "klein/io/complaints.h"
#include "klein/io/safetensors.h"
#include "klein/io/text.h"
#include "klein/weights/lora.h"
#include "klein/weights/lora_config.h"

namespace klein::weights {
namespace {

constexpr std::int64_t kMaxSide = 16777216;

/// What a tensor is in its layer, by the last word of its name; one word for each.
struct Role {
  std::string_view word, role;
};
constexpr std::array kRoles = {
    Role{"lora_A", "lora_A"},       Role{"lora_B", "lora_B"},       Role{"lora_down", "lora_A"},
    Role{"lora_up", "lora_B"},      Role{"alpha", "alpha"},         Role{"lokr_w1", "lokr_w1"},
    Role{"lokr_w1_a", "lokr_w1_a"}, Role{"lokr_w1_b", "lokr_w1_b"}, Role{"lokr_w2", "lokr_w2"},
    Role{"lokr_w2_a", "lokr_w2_a"}, Role{"lokr_w2_b", "lokr_w2_b"}, Role{"hada_w1_a", "hada_w1_a"},
    Role{"hada_w1_b", "hada_w1_b"}, Role{"hada_w2_a", "hada_w2_a"}, Role{"hada_w2_b", "hada_w2_b"}};

/// Words of kinds that are not read, and what they are.
constexpr std::array kRefused = {
    Role{"dora_scale", "a DoRA"},
    Role{"lora_magnitude_vector", "a DoRA"},
    Role{"lora_mid", "a Tucker decomposition for convolutions"},
    Role{"lokr_t2", "a Tucker decomposition for convolutions"},
    Role{"hada_t1", "a Tucker decomposition for convolutions"},
    Role{"hada_t2", "a Tucker decomposition for convolutions"},
};

struct Key {
  std::string layer;
  std::string_view role;  ///< Empty: none that is known.
};

std::string_view last_word(std::string_view& text) {
  const auto dot = text.rfind('.');
  const auto word = text.substr(dot == text.npos ? 0 : dot + 1);
  text = text.substr(0, dot == text.npos ? 0 : dot);
  return word;
}

std::string_view role_of(std::string_view word) {
  const auto found = std::ranges::find(kRoles, word, &Role::word);
  return found == kRoles.end() ? std::string_view{} : found->role;
}

void expect_known_kind(std::string_view word, std::string_view name, const std::string& where) {
  const auto refused = std::ranges::find(kRefused, word, &Role::word);
  if (refused != kRefused.end())
    throw Error(ErrorKind::unsupported,
                fmt::format("expected a LoRA, LoKr or LoHa, got {}, which has {}: {}",
                            refused->role, io::printable(name), where));
}

/// LAYER.lora_A.weight, LAYER.lora_A.ADAPTER.weight, LAYER.lora.down.weight, LAYER.alpha, ...
Key parse(std::string_view name, const std::string& where) {
  constexpr std::string_view end = ".weight";
  auto rest = name;
  const bool is_weight = rest.ends_with(end);
  if (is_weight) rest.remove_suffix(end.size());
  auto word = last_word(rest);
  expect_known_kind(word, name, where);
  if (const auto role = role_of(word); !role.empty()) return {std::string(rest), role};
  if (!is_weight) return {};
  const auto before = last_word(rest);
  expect_known_kind(before, name, where);
  if (before == "lora" && word == "down") return {std::string(rest), "lora_A"};
  if (before == "lora" && word == "up") return {std::string(rest), "lora_B"};
  return {std::string(rest), before.starts_with("lora_") ? role_of(before) : std::string_view{}};
}

/// The tensors of one layer by their roles.
using Tensors = std::map<std::string_view, mx::array>;

class LayerBuilder {
 public:
  LayerBuilder(const std::string& name, const Tensors& tensors, const LoraConfig& config,
               io::Complaints& complaints)
      : name_(name), tensors_(tensors), config_(config), complaints_(complaints) {}

  std::optional<LoraLayer> operator()() {
    std::optional<LoraMatrix> matrix;
    if (has("lora_A") || has("lora_B"))
      matrix = lora();
    else if (has_any("hada_"))
      matrix = loha();
    else if (has_any("lokr_"))
      matrix = lokr();
    else
      complaints_.add(fmt::format("{} with nothing but an alpha", io::printable(name_)));
    if (!matrix) return std::nullopt;
    if (used_ + (has("alpha") ? 1U : 0U) != tensors_.size()) {
      complaints_.add(fmt::format("{} with tensors of two kinds", io::printable(name_)));
      return std::nullopt;
    }
    return LoraLayer{*std::move(matrix), scale(), rank_};
  }

 private:
  bool has(std::string_view role) const { return tensors_.contains(role); }
  bool has_any(std::string_view prefix) const {
    return std::ranges::any_of(tensors_,
                               [&](const auto& t) { return t.first.starts_with(prefix); });
  }

  /// b a of two roles, sides checked.
  std::optional<LowRank> low_rank(std::string_view b, std::string_view a) {
    for (const auto role : {a, b})
      if (!has(role)) {
        complaints_.add(fmt::format("{} without {}", io::printable(name_), role));
        return std::nullopt;
      }
    const auto &ta = tensors_.at(a), &tb = tensors_.at(b);
    if (tb.shape(1) != ta.shape(0)) {
      complaints_.add(fmt::format("{} with {} [{}, {}] and {} [{}, {}]", io::printable(name_), a,
                                  ta.shape(0), ta.shape(1), b, tb.shape(0), tb.shape(1)));
      return std::nullopt;
    }
    used_ += 2;
    rank_ = ta.shape(0);
    return LowRank{ta, tb};
  }

  std::optional<LoraMatrix> lora() { return low_rank("lora_B", "lora_A"); }

  std::optional<LoraMatrix> loha() {
    const auto first = low_rank("hada_w1_a", "hada_w1_b");
    const auto second = low_rank("hada_w2_a", "hada_w2_b");
    if (!first || !second) return std::nullopt;
    if (size_of(*first) != size_of(*second)) {
      complaints_.add(fmt::format("{} with factors of different sizes", io::printable(name_)));
      return std::nullopt;
    }
    return HadamardProduct{*first, *second};
  }

  /// A factor of a LoKr is whole, or a product itself. alpha counts with the rank of the second one
  /// where that is a product, else of the first, else not at all.
  std::optional<LoraMatrix> lokr() {
    const auto factor = [&](const char* whole, const char* a,
                            const char* b) -> std::optional<LoraMatrix> {
      if (!has(whole)) return low_rank(a, b);
      ++used_;
      return tensors_.at(whole);
    };
    const auto first = factor("lokr_w1", "lokr_w1_a", "lokr_w1_b");
    const auto second = factor("lokr_w2", "lokr_w2_a", "lokr_w2_b");
    if (!first || !second) return std::nullopt;
    if (!fits(*first) || !fits(*second)) return std::nullopt;
    return KroneckerProduct{whole(*first), whole(*second)};
  }

  /// A product may be far larger than the file, and never is in a LoRA that somebody can use.
  bool fits(const LoraMatrix& factor) {
    const auto [rows, columns] = size_of(factor);
    if (rows * columns <= kMaxFactor) return true;
    complaints_.add(fmt::format("{} with a factor [{}, {}]", io::printable(name_), rows, columns));
    return false;
  }

  static mx::array whole(const LoraMatrix& factor) {
    const auto* array = std::get_if<mx::array>(&factor);
    return array != nullptr ? *array : product(factor);
  }

  double scale() const {
    if (rank_ == 0) return 1.0;
    if (has("alpha")) {
      auto alpha =
          tensors_.at("alpha");  // a copy, for reading a constant array does not compute it
      return alpha.item<float>() / static_cast<double>(rank_);
    }
    return config_.scale(name_, rank_).value_or(1.0);
  }

  static constexpr std::int64_t kMaxFactor = std::int64_t{1} << 30;

  const std::string& name_;
  const Tensors& tensors_;
  const LoraConfig& config_;
  io::Complaints& complaints_;
  std::size_t used_ = 0;
  int rank_ = 0;
};

/// Whether it can be a matrix of a LoRA or, of one element, an alpha.
bool is_plausible(const io::TensorInfo& tensor, std::string_view role) {
  std::int64_t count = 1;
  for (const auto side : tensor.shape) {
    if (side < 1 || side > kMaxSide) return false;
    count *= side;  // at most the file's bytes, so no overflow
  }
  if (role == "alpha") return count == 1;
  const auto& s = tensor.shape;
  return s.size() == 2 || (s.size() == 4 && s[2] == 1 && s[3] == 1);
}

/// As a matrix, or as float32 where it is an alpha.
mx::array in_form(const mx::array& tensor, std::string_view role) {
  if (role == "alpha") return mx::astype(mx::reshape(tensor, {}), mx::float32);
  return tensor.ndim() == 2 ? tensor : mx::reshape(tensor, {tensor.shape(0), tensor.shape(1)});
}

std::string shape_text(const io::TensorInfo& tensor) {
  return fmt::format("{} {}", io::dtype_name(tensor.dtype), describe(tensor.shape));
}

/// What a tensor's header says of it, as zeros that take no memory.
mx::array without_numbers(const io::TensorInfo& tensor) {
  mx::Shape shape;
  for (const auto side : tensor.shape) shape.push_back(static_cast<int>(side));
  const bool is_float = tensor.dtype == io::Dtype::float32 || tensor.dtype == io::Dtype::float16 ||
                        tensor.dtype == io::Dtype::bfloat16;
  return mx::zeros(shape, is_float ? mx::float32 : mx::int32);
}

enum class Reading { whole, header };

/// The tensors by layer and role, those of no layer apart. Sizes are checked before MLX sees them.
std::map<std::string, Tensors> gather(const io::SafetensorsFile& file, Reading reading,
                                      LoraFile& lora, io::Complaints& complaints) {
  std::map<std::string, std::pair<const io::TensorInfo*, Key>> keys;
  for (const auto& tensor : file.tensors()) {
    auto key = parse(tensor.name, file.path().string());
    if (key.role.empty()) {
      lora.unused.push_back(tensor.name);
      continue;
    }
    if (!is_plausible(tensor, key.role))
      complaints.add(fmt::format("{} {}", io::printable(tensor.name), shape_text(tensor)));
    keys.emplace(tensor.name, std::pair(&tensor, std::move(key)));
  }
  complaints.throw_if_any("matrices", file.path());
  if (keys.empty()) return {};

  std::map<std::string, Tensors> layers;
  const auto arrays = reading == Reading::whole ? load_tensors(file) : TensorMap{};
  for (const auto& [name, entry] : keys) {
    const auto& [info, key] = entry;
    const auto array = reading == Reading::whole ? arrays.at(name) : without_numbers(*info);
    if (key.role != "alpha" && !mx::issubdtype(array.dtype(), mx::floating))
      complaints.add(fmt::format("{} {}", io::printable(name), shape_text(*info)));
    if (!layers[key.layer].try_emplace(key.role, in_form(array, key.role)).second)
      complaints.add(fmt::format("{} with two of {}", io::printable(key.layer), key.role));
  }
  return layers;
}

void expect_finite(const std::map<std::string, Tensors>& layers,
                   const std::filesystem::path& path) {
  io::Complaints complaints;
  for (const auto& [name, tensors] : layers)
    for (const auto& [role, tensor] : tensors)
      if (!mx::all(mx::isfinite(tensor)).item<bool>())
        complaints.add(fmt::format("a NaN or an infinity in {}.{}", io::printable(name), role));
  complaints.throw_if_any("finite numbers", path);
}

LoraFile read(const std::filesystem::path& path, Reading reading) {
  LoraFile lora{.path = path, .layers = {}, .unused = {}};
  const auto file = io::SafetensorsFile::open(path, io::Access::copy_on_write);
  const auto config = LoraConfig::read(file);
  io::Complaints complaints;
  const auto layers = gather(file, reading, lora, complaints);
  for (const auto& [name, tensors] : layers)
    if (auto layer = LayerBuilder(name, tensors, config, complaints)())
      lora.layers.emplace(name, *std::move(layer));
  complaints.throw_if_any("a whole LoRA", path);
  if (reading == Reading::whole) expect_finite(layers, path);
  return lora;
}

}  // namespace

LoraFile read_lora_file(const std::filesystem::path& path) {
  return read(path, Reading::whole);
}

LoraFile read_lora_header(const std::filesystem::path& path) {
  return read(path, Reading::header);
}

}  // namespace klein::weights
