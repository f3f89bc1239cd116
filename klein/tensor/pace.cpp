#include "klein/tensor/pace.h"

#include <utility>

namespace klein {
void Pace::start(std::vector<mx::array> results) {
  if (mx::default_device() == mx::Device::cpu) {
    mx::eval(std::move(results));
    return;
  }
  mx::async_eval(results);
  running_.push_back(std::move(results));
  if (running_.size() <= ahead_) return;
  for (auto& done : running_.front()) done.wait();
  running_.pop_front();
}

}  // namespace klein
