#pragma once

#include <cstddef>
#include <deque>
#include <functional>
#include <vector>

#include "klein/tensor/mlx.h"

namespace klein {

/// Has long work evaluated piece by piece, so that the results of a few pieces are in memory at a
/// time. The CPU finishes each piece; a GPU is always given some pieces ahead of those it works on.
class Pace {
 public:
  /// `ahead` pieces wait in a GPU's queue: some milliseconds of work.
  explicit Pace(std::size_t ahead = 3) : ahead_(ahead) {}

  /// Begins the work on these arrays; on a GPU waits for those of some calls before. `done` is
  /// called, by this or a later call, when they are seen to be there.
  void start(std::vector<mx::array> results, std::function<void()> done = {});

  /// Waits for everything.
  void finish();

 private:
  struct Piece {
    std::vector<mx::array> results;
    std::function<void()> done;
  };

  void wait_for_first();

  std::size_t ahead_;
  std::deque<Piece> running_;
};

}  // namespace klein
