#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <string>
#include <vector>

#include "klein/pipeline/request.h"

namespace klein::cli {

/// Writes what a picture would be after every step: `seed_7_step2of4.png`, and at the end all of
/// them beside each other as `seed_7_composite.png`. Where one seed has several pictures, each has
/// its number at the end of the name.
class StepwiseFiles {
 public:
  /// Makes the folder. Errors   Error(io) when that fails
  StepwiseFiles(std::filesystem::path folder, bool overwrite);

  /// Begins anew with the next seeds: one, or one for each picture that comes.
  void start(const std::vector<std::uint64_t>& seeds);

  /// Errors   as io::write_atomically
  void add(const Preview& preview);

  /// Writes the sheets of the seeds.
  void finish();

 private:
  void write(const io::Image& image, const std::string& what, std::size_t index) const;

  std::filesystem::path folder_;
  bool overwrite_;
  std::vector<std::uint64_t> seeds_;
  std::vector<std::vector<io::Image>> frames_;  ///< Of each picture of the batch, small.
};

}  // namespace klein::cli
