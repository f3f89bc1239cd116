#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <string>
#include <vector>

#include "klein/pipeline/request.h"

namespace klein::cli {

/// Writes what a picture would be after every step: `seed_7_step2of4.png`, and at the end all of
/// them beside each other as `seed_7_composite.png`. Of a batch each picture has its own, with its
/// number at the end of the name.
class StepwiseFiles {
 public:
  /// Makes the folder. Errors   Error(io) when that fails
  StepwiseFiles(std::filesystem::path folder, bool overwrite);

  /// Begins anew with the next seed.
  void start(std::uint64_t seed);

  /// Errors   as io::write_atomically
  void add(const Preview& preview);

  /// Writes the sheets of the seed.
  void finish();

 private:
  void write(const io::Image& image, const std::string& what, std::size_t index) const;

  std::filesystem::path folder_;
  bool overwrite_;
  std::uint64_t seed_ = 0;
  std::vector<std::vector<io::Image>> frames_;  ///< Of each picture of the batch, small.
};

}  // namespace klein::cli
