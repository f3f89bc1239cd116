#pragma once

#include <array>
#include <cstdint>
#include <filesystem>
#include <map>
#include <optional>

#include "klein/ops/cuda/cublas.h"

namespace klein::ops::cuda {

/// How to run a product, as cuBLASLt keeps it.
struct Algorithm {
  std::array<std::uint64_t, 8> data{};
  std::uint64_t workspace = 0;
};

/// The fastest algorithm of every shape that was ever tried with one GPU and version of cuBLASLt,
/// in a file that the next process reads. It is only a help: what cannot be read counts as not
/// there, and what cannot be written is not kept.
class SavedAlgorithms {
 public:
  /// Lines of "m n k bias fp8 workspace" and eight words in hexadecimal.
  explicit SavedAlgorithms(std::filesystem::path file);

  std::optional<Algorithm> find(const ProductShape& shape) const;

  /// Adds it and writes the file anew, under its name only when it is complete.
  void add(const ProductShape& shape, const Algorithm& algorithm);

 private:
  std::filesystem::path file_;  ///< Empty: nothing is kept.
  std::map<ProductShape, Algorithm> known_;
};

/// klein/NAME in the user's folder for caches ($XDG_CACHE_HOME, else ~/.cache); empty without one.
std::filesystem::path cache_file(const std::string& name);

}  // namespace klein::ops::cuda
