#pragma once

#include <cstddef>
#include <deque>
#include <vector>

#include "klein/tensor/mlx.h"

namespace klein {

/// Has long work evaluated piece by piece, so that the results of a few pieces are in memory at a
/// time. The CPU finishes each piece; a GPU is always given some pieces ahead of those it works on.
class Pace {
 public:
  /// `ahead` pieces wait in a GPU's queue: some milliseconds of work.
  explicit Pace(std::size_t ahead = 3) : ahead_(ahead) {}

  /// Begins the work on these arrays; on a GPU waits for those of some calls before.
  void start(std::vector<mx::array> results);

 private:
  std::size_t ahead_;
  std::deque<std::vector<mx::array>> running_;
};

}  // namespace klein
