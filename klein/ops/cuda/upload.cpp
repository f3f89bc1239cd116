#include "klein/ops/cuda/upload.h"

#include <algorithm>
#include <array>
#include <atomic>
#include <condition_variable>
#include <cstring>
#include <deque>
#include <memory>
#include <mutex>
#include <thread>
#include <utility>

#include <cuda_runtime.h>

#include "klein/ops/cuda/driver.h"
#include "klein/ops/cuda/kernel.h"
#include "klein/ops/cuda/memory.h"
#include "klein/ops/cuda/native.h"

namespace klein::ops::cuda {
namespace {

constexpr std::size_t kPiece = std::size_t{4} << 20;  // what a thread copies at once
constexpr unsigned kMostThreads = 12;

/// Part of an array on its way.
struct Piece {
  const std::byte* from;
  std::byte* to;
  std::size_t bytes;
  std::shared_ptr<const std::function<void()>> done;  ///< Called when the last piece goes.
};

/// Threads that copy pieces, each with two blocks of pinned memory: one fills while the other goes
/// over the bus. A page of a mapped file is first seen by the thread that copies it, which is most
/// of the time that a copy takes.
class Uploader {
 public:
  Uploader() {
    const auto count = std::clamp(std::thread::hardware_concurrency(), 2u, kMostThreads);
    for (unsigned i = 0; i < count; ++i) std::thread([this] { work(); }).detach();
  }

  void add(const std::byte* from, std::byte* to, std::size_t bytes, std::function<void()> done) {
    const std::shared_ptr<const std::function<void()>> at_end(
        new std::function<void()>(std::move(done)), [](const std::function<void()>* f) {
          (*f)();
          delete f;
        });
    const std::lock_guard lock(mutex_);
    for (std::size_t at = 0; at < bytes; at += kPiece) {
      queue_.push_back({from + at, to + at, std::min(kPiece, bytes - at), at_end});
      ++open_;
    }
    wake_.notify_all();
  }

  void finish() {
    std::unique_lock lock(mutex_);
    idle_.wait(lock, [this] { return open_ == 0; });
    const auto failure = std::exchange(failure_, cudaSuccess);
    lock.unlock();
    check(failure, "copy of the weights");
  }

 private:
  void work() {
    std::array<void*, 2> blocks{};
    std::array<cudaEvent_t, 2> sent{};
    cudaStream_t stream = nullptr;
    auto result = cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking);
    for (auto& block : blocks)
      if (result == cudaSuccess) result = cudaMallocHost(&block, kPiece);
    for (auto& event : sent)
      if (result == cudaSuccess) result = cudaEventCreateWithFlags(&event, cudaEventDisableTiming);

    std::size_t sent_pieces = 0;  // since this thread last waited for its stream
    for (std::size_t turn = 0;; turn ^= 1) {
      auto piece = next(stream, sent_pieces);
      if (result == cudaSuccess) result = cudaEventSynchronize(sent[turn]);
      if (result == cudaSuccess) {
        std::memcpy(blocks[turn], piece.from, piece.bytes);
        result =
            cudaMemcpyAsync(piece.to, blocks[turn], piece.bytes, cudaMemcpyHostToDevice, stream);
      }
      if (result == cudaSuccess) result = cudaEventRecord(sent[turn], stream);
      piece.done.reset();
      if (result != cudaSuccess) note(result);
    }
  }

  /// Whoever finds the queue empty waits for its own copies first: then `open_` counts right.
  Piece next(cudaStream_t stream, std::size_t& sent_pieces) {
    std::unique_lock lock(mutex_);
    if (queue_.empty()) {
      lock.unlock();
      const auto result = cudaStreamSynchronize(stream);
      lock.lock();
      if (result != cudaSuccess) failure_ = result;
      open_ -= std::exchange(sent_pieces, 0);
      if (open_ == 0) idle_.notify_all();
    }
    wake_.wait(lock, [this] { return !queue_.empty(); });
    auto piece = std::move(queue_.front());
    queue_.pop_front();
    ++sent_pieces;
    return piece;
  }

  void note(cudaError_t result) {
    const std::lock_guard lock(mutex_);
    failure_ = result;
  }

  std::mutex mutex_;
  std::condition_variable wake_, idle_;
  std::deque<Piece> queue_;
  std::size_t open_ = 0;
  cudaError_t failure_ = cudaSuccess;
};

/// Made by the first upload and never ended: at the end of the process the driver may be gone
/// before its threads.
Uploader& uploader() {
  static auto* const threads = new Uploader;
  return *threads;
}

/// Whether there is anything to wait for.
std::atomic<bool> has_begun = false;

}  // namespace

bool uploads() {
  return available() && mx::default_device() == mx::Device::gpu;
}

mx::array upload(std::span<const std::byte> bytes, const mx::Shape& shape, mx::Dtype dtype,
                 std::function<void()> done) {
  auto memory = device_memory(bytes.size(), nullptr);
  auto* to = static_cast<std::byte*>(data_of(memory));
  // The memory is there for other streams once its own says so.
  check(cudaStreamSynchronize(nullptr), "the GPU's memory");
  mx::array result(std::move(memory), shape, dtype);
  has_begun = true;
  uploader().add(bytes.data(), to, bytes.size(), std::move(done));
  return result;
}

mx::array upload_at_once(std::span<const std::byte> bytes, const mx::Shape& shape,
                         mx::Dtype dtype) {
  auto memory = device_memory(bytes.size(), nullptr);
  check(
      cudaMemcpyAsync(data_of(memory), bytes.data(), bytes.size(), cudaMemcpyHostToDevice, nullptr),
      "copy to the GPU");
  check(cudaStreamSynchronize(nullptr), "copy to the GPU");
  return mx::array(std::move(memory), shape, dtype);
}

void download(const mx::array& a, std::span<std::byte> to) {
  check(cudaMemcpy(to.data(), address(a), to.size(), cudaMemcpyDefault), "copy of a result");
}

void finish_uploads() {
  if (has_begun.exchange(false)) uploader().finish();
}

}  // namespace klein::ops::cuda
