#include "klein/tensor/pace.h"

#include <utility>

namespace klein {

void Pace::start(std::vector<mx::array> results, std::function<void()> done) {
  if (mx::default_device() == mx::Device::cpu) {
    mx::eval(std::move(results));
    if (done) done();
    return;
  }
  mx::async_eval(results);
  running_.push_back({std::move(results), std::move(done)});
  if (running_.size() > ahead_) wait_for_first();
}

void Pace::finish() {
  while (!running_.empty()) wait_for_first();
}

void Pace::wait_for_first() {
  auto piece = std::move(running_.front());
  running_.pop_front();
  for (auto& result : piece.results) result.wait();
  piece.results.clear();
  if (piece.done) piece.done();
}

}  // namespace klein
