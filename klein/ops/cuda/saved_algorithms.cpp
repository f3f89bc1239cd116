#include "klein/ops/cuda/saved_algorithms.h"

#include <cstdlib>
#include <fstream>
#include <sstream>
#include <string>
#include <system_error>
#include <utility>

#include <unistd.h>

namespace klein::ops::cuda {
namespace {

constexpr std::size_t kMostLines = 10000;  // of a file that grew too large or is none of ours

}  // namespace

SavedAlgorithms::SavedAlgorithms(std::filesystem::path file) : file_(std::move(file)) {
  std::ifstream lines(file_);
  for (std::string line; known_.size() < kMostLines && std::getline(lines, line);) {
    std::istringstream words(line);
    ProductShape shape;
    Algorithm algorithm;
    words >> shape.m >> shape.n >> shape.k >> shape.with_bias >> shape.fp8 >> algorithm.workspace >>
        std::hex;
    for (auto& word : algorithm.data) words >> word;
    if (words && words.peek() == std::char_traits<char>::eof())
      known_.insert_or_assign(shape, algorithm);
  }
}

std::optional<Algorithm> SavedAlgorithms::find(const ProductShape& shape) const {
  const auto found = known_.find(shape);
  return found == known_.end() ? std::nullopt : std::optional(found->second);
}

void SavedAlgorithms::add(const ProductShape& shape, const Algorithm& algorithm) {
  known_.insert_or_assign(shape, algorithm);
  if (file_.empty()) return;
  std::error_code error;
  std::filesystem::create_directories(file_.parent_path(), error);
  auto part = file_;
  part += "." + std::to_string(::getpid()) + ".part";
  {
    std::ofstream out(part);
    for (const auto& [known, a] : known_) {
      out << std::dec << known.m << ' ' << known.n << ' ' << known.k << ' ' << known.with_bias
          << ' ' << known.fp8 << ' ' << a.workspace << std::hex;
      for (const auto word : a.data) out << ' ' << word;
      out << '\n';
    }
    out.close();
    if (!out) error = std::make_error_code(std::errc::io_error);
  }
  if (!error) std::filesystem::rename(part, file_, error);
  if (error) std::filesystem::remove(part, error);
}

std::filesystem::path cache_file(const std::string& name) {
  if (const char* folder = std::getenv("XDG_CACHE_HOME"); folder != nullptr && *folder == '/')
    return std::filesystem::path(folder) / "klein" / name;
  if (const char* home = std::getenv("HOME"); home != nullptr && *home == '/')
    return std::filesystem::path(home) / ".cache" / "klein" / name;
  return {};
}

}  // namespace klein::ops::cuda
