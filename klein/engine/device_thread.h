#pragma once

#include <condition_variable>
#include <deque>
#include <functional>
#include <future>
#include <mutex>
#include <thread>
#include <type_traits>
#include <utility>

namespace klein {

/// One thread that runs what it is given, in order. MLX's lazy arrays belong to the thread that
/// made them, so everything that touches them runs here.
class DeviceThread {
 public:
  DeviceThread();
  DeviceThread(const DeviceThread&) = delete;
  DeviceThread& operator=(const DeviceThread&) = delete;

  /// Finishes what was given and ends the thread.
  ~DeviceThread();

  /// Runs `work` on the thread and waits; returns its result or throws its exception.
  template <typename Work>
  std::invoke_result_t<Work> run(Work work) {
    std::packaged_task<std::invoke_result_t<Work>()> task(std::move(work));
    auto result = task.get_future();
    push([&task] { task(); });
    return result.get();
  }

 private:
  void push(std::function<void()> work);
  void loop();

  std::mutex mutex_;
  std::condition_variable ready_;
  std::deque<std::function<void()>> queue_;
  bool stopping_ = false;
  std::thread thread_;  ///< Last: it starts when everything else is there.
};

}  // namespace klein
