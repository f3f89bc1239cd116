#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <new>
#include <vector>

#include "klein/ops/cpu/scalar.h"
#include "klein/ops/portable_twin.h"
#include "klein/tensor/mlx.h"

/// What every CPU kernel needs: a node of MLX's graph, strided inputs, scratch memory, threads.
namespace klein::ops::native {

/// Computes the output from evaluated inputs, on MLX's CPU worker thread. The output is allocated
/// and row-contiguous; inputs may have any strides. What it throws comes out of
/// mx::eval, as std::runtime_error with the same text.
using KernelBody = std::function<void(const std::vector<mx::array>& inputs, mx::array& output)>;

/// A lazy array that `body` computes on the CPU.
mx::array cpu_kernel(const char* name, std::vector<mx::array> inputs, mx::Shape shape,
                     mx::Dtype dtype, KernelBody body, PortableTwin twin);

/// Asks the system for large pages under a block of memory, where the block is large enough.
///
/// A fresh block costs one fault for every page at its first use: 27 ms for 40 MB of small pages,
/// 6 ms for large ones.
void advise_large_pages(void* data, std::size_t bytes) noexcept;

/// Uninitialised numbers on a cache line's boundary.
template <typename T>
class Scratch {
 public:
  Scratch() = default;
  explicit Scratch(std::size_t count)
      : data_(static_cast<T*>(::operator new(count * sizeof(T), std::align_val_t(kAlign)))) {
    advise_large_pages(data_.get(), count * sizeof(T));
  }

  T* data() const { return data_.get(); }

 private:
  static constexpr std::size_t kAlign = 64;
  struct Free {
    void operator()(T* p) const { ::operator delete(p, std::align_val_t(kAlign)); }
  };
  std::unique_ptr<T, Free> data_;
};

/// An evaluated array as rows along its last axis, wherever the rows lie.
///
/// Columns of a wider array are read where they are; only a last axis that is not contiguous is
/// copied.
class Rows {
 public:
  explicit Rows(const mx::array& a);

  std::int64_t count() const { return count_; }
  std::int64_t length() const { return length_; }

  template <typename T>
  const T* row(std::int64_t index) const {
    return static_cast<const T*>(data_) + offset(index);
  }

 private:
  std::int64_t offset(std::int64_t row) const;

  const void* data_ = nullptr;
  std::int64_t count_ = 1;
  std::int64_t length_ = 1;
  std::vector<std::int64_t> sizes_, strides_;  // leading axes, merged where that is possible
  Scratch<std::byte> copy_;
};

/// The numbers of an array in row order, copied only when they do not lie that way.
class Dense {
 public:
  explicit Dense(const mx::array& a);

  template <typename T>
  const T* data() const {
    return static_cast<const T*>(data_);
  }

 private:
  const void* data_ = nullptr;
  Scratch<std::byte> copy_;
};

/// The numbers of a small array (a norm's weight, a bias) as float32.
std::vector<float> floats_of(const mx::array& a);

/// Calls run(T()) with T the type that holds numbers of `dtype`.
template <typename Run>
void with_type(mx::Dtype dtype, const Run& run) {
  if (dtype == mx::bfloat16)
    run(Bf16{});
  else
    run(float{});
}

/// Number of threads that parallel loops use.
int thread_count();

/// Calls work(begin, end) for parts of 0..count, in several threads when the whole is worth it.
///
/// `bytes_each` is what one index reads and writes. `work` must not throw.
void parallel_ranges(std::int64_t count, std::int64_t bytes_each,
                     const std::function<void(std::int64_t begin, std::int64_t end)>& work);

/// Calls task(index, thread) for every index in 0..count, one by one as threads come free.
///
/// `task` must not throw; thread is in 0..thread_count().
void parallel_tasks(std::int64_t count,
                    const std::function<void(std::int64_t index, int thread)>& task);

}  // namespace klein::ops::native
