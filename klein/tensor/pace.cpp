#include "klein/tensor/pace.h"

#include <utility>

namespace klein {
namespace {

// Blocks of a transformer that wait in the GPU's queue: some milliseconds of work.
constexpr std::size_t kAhead = 3;

}  // namespace

void Pace::start(std::vector<mx::array> results) {
  if (mx::default_device() == mx::Device::cpu) {
    mx::eval(std::move(results));
    return;
  }
  mx::async_eval(results);
  running_.push_back(std::move(results));
  if (running_.size() <= kAhead) return;
  for (auto& done : running_.front()) done.wait();
  running_.pop_front();
}

}  // namespace klein
