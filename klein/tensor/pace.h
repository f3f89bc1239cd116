#pragma once

#include <deque>
#include <vector>

#include "klein/tensor/mlx.h"

namespace klein {

/// Has long work evaluated piece by piece, so that the results of a few pieces are in memory at a
/// time. The CPU finishes each piece; a GPU is always given some pieces ahead of those it works on.
class Pace {
 public:
  /// Begins the work on these arrays; on a GPU waits for those of some calls before.
  void start(std::vector<mx::array> results);

 private:
  std::deque<std::vector<mx::array>> running_;
};

}  // namespace klein
