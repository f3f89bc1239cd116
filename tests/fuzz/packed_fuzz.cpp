// The input is a list of tensors, `name DTYPE side side ...` on a line each, or with ` =text` at
// its end where their bytes matter; then, after an empty line, the bytes of all others, used over
// and over again. It becomes a file whose header is in order: only what is made of it can go wrong.

#include <charconv>
#include <set>
#include <string>
#include <vector>

#include "fuzz/support.h"
#include "fuzz/targets.h"
#include "klein/io/json.h"
#include "klein/io/safetensors.h"

namespace klein::fuzz {
namespace {

constexpr std::uint64_t kMaxBytes = 1 << 14;

/// What stands before `end`, which goes away with it.
std::string_view take_until(std::string_view& text, std::string_view end) {
  const auto at = text.find(end);
  const auto taken = text.substr(0, at);
  text.remove_prefix(at == text.npos ? text.size() : at + end.size());
  return taken;
}

class FileMaker {
 public:
  explicit FileMaker(std::string_view bytes) : bytes_(bytes.empty() ? "\x38" : bytes) {}

  void add(std::string_view line) {
    std::string_view content = line;
    auto words = take_until(content, " =");
    const bool has_content = words.size() < line.size();
    const std::string name(take_until(words, " "));
    const auto dtype = io::parse_dtype(take_until(words, " "));
    if (!dtype || name == "__metadata__" || header_.contains(name)) return;
    std::vector<std::int64_t> shape;
    auto size = static_cast<std::uint64_t>(io::dtype_bytes(*dtype));
    if (has_content) shape.push_back(static_cast<std::int64_t>(content.size() / size));
    while (!words.empty() && !has_content) {
      const auto word = take_until(words, " ");
      std::int64_t side = 0;
      std::from_chars(word.data(), word.data() + word.size(), side);
      shape.push_back(std::max<std::int64_t>(side, 0));
    }
    for (const auto side : shape)
      if (__builtin_mul_overflow(size, static_cast<std::uint64_t>(side), &size)) return;
    if (size > kMaxBytes || data_.size() + size > kMaxBytes) return;
    const auto begin = data_.size();
    while (data_.size() < begin + size)
      data_ +=
          has_content ? content.substr(0, size) : bytes_.substr(0, begin + size - data_.size());
    header_[name] = {{"dtype", io::dtype_name(*dtype)},
                     {"shape", shape},
                     {"data_offsets", {begin, begin + size}}};
  }

  std::string file() const {
    const auto header = header_.dump(-1, ' ', false, nlohmann::json::error_handler_t::replace);
    std::string file;
    for (int shift = 0; shift < 64; shift += 8)
      file += static_cast<char>(static_cast<unsigned char>(header.size() >> shift));
    return file + header + data_;
  }

 private:
  std::string_view bytes_;
  nlohmann::json header_ = nlohmann::json::object();
  std::string data_;
};

}  // namespace

void packed(std::string_view input) {
  static const Folder folder;
  auto lines = take_until(input, "\n\n");
  FileMaker maker(input);
  while (!lines.empty()) maker.add(take_until(lines, "\n"));
  check_stored(weights::WeightFiles::open(folder.write("x.safetensors", maker.file())));
}

}  // namespace klein::fuzz
