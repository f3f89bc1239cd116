#include "klein/ops/cpu/kernel.h"

#include <algorithm>
#include <cstring>
#include <new>
#include <stdexcept>
#include <utility>

#include <omp.h>
#ifdef __linux__
#include <sys/mman.h>
#endif

#include "mlx/allocator.h"
#include "mlx/backend/cpu/encoder.h"
#include "mlx/primitives.h"

#include "klein/core/error.h"
#include "klein/ops/cpu/convert.h"
#include "klein/ops/cpu/scalar.h"

namespace klein::ops::native {
namespace {

class CpuKernel : public mx::Primitive {
 public:
  CpuKernel(const char* name, KernelBody body, PortableTwin twin)
      : Primitive(mx::default_stream(mx::Device::cpu)),
        name_(name),
        body_(std::move(body)),
        twin_(std::move(twin)) {}

  const char* name() const override { return name_; }

  void eval_cpu(const std::vector<mx::array>& inputs, std::vector<mx::array>& outputs) override {
    auto& output = outputs[0];
    auto memory = mx::allocator::malloc(output.nbytes());
    if (memory.buffer().ptr() == nullptr) throw std::bad_alloc();  // MLX hands the null on
    output.set_data(std::move(memory));
    if (output.size() == 0) return;
    advise_large_pages(output.data<void>(), output.nbytes());
    auto& encoder = mx::cpu::get_command_encoder(stream());
    // MLX keeps the buffers alive until the task has run.
    std::vector<mx::array> weak;
    for (const auto& input : inputs) {
      encoder.set_input_array(input);
      weak.push_back(mx::array::unsafe_weak_copy(input));
    }
    encoder.set_output_array(output);
    encoder.dispatch([body = body_, weak = std::move(weak),
                      out = mx::array::unsafe_weak_copy(output)]() mutable { body(weak, out); });
  }

  void eval_gpu(const std::vector<mx::array>&, std::vector<mx::array>&) override {
    throw Error(ErrorKind::internal, std::string(name_) + " was asked to run on a GPU");
  }

  std::vector<mx::array> vjp(const std::vector<mx::array>& primals,
                             const std::vector<mx::array>& cotangents,
                             const std::vector<int>& argnums,
                             const std::vector<mx::array>&) override {
    return gradients_of(twin_, primals, cotangents, argnums);
  }

 private:
  const char* name_;
  KernelBody body_;
  PortableTwin twin_;
};

/// Copies elements of `bytes` bytes from any strides into row order.
void copy_strided(const mx::array& a, std::byte* out) {
  const auto bytes = static_cast<std::int64_t>(a.itemsize());
  const int axes = static_cast<int>(a.ndim());
  const auto* in = a.data<std::byte>();
  std::vector<std::int64_t> index(static_cast<std::size_t>(axes), 0);
  for (std::size_t i = 0; i < a.size(); ++i) {
    std::int64_t from = 0;
    for (int d = 0; d < axes; ++d) from += index[static_cast<std::size_t>(d)] * a.strides(d);
    std::memcpy(out + static_cast<std::int64_t>(i) * bytes, in + from * bytes,
                static_cast<std::size_t>(bytes));
    for (int d = axes - 1; d >= 0; --d) {
      auto& position = index[static_cast<std::size_t>(d)];
      if (++position < a.shape(d)) break;
      position = 0;
    }
  }
}

}  // namespace

mx::array cpu_kernel(const char* name, std::vector<mx::array> inputs, mx::Shape shape,
                     mx::Dtype dtype, KernelBody body, PortableTwin twin) {
  return mx::array(std::move(shape), dtype,
                   std::make_shared<CpuKernel>(name, std::move(body), std::move(twin)),
                   std::move(inputs));
}

void advise_large_pages(void* data, std::size_t bytes) noexcept {
#ifdef __linux__
  constexpr std::size_t kPage = 4096, kWorthIt = 4 << 20;
  if (bytes < kWorthIt) return;
  const auto begin = (reinterpret_cast<std::uintptr_t>(data) + kPage - 1) / kPage * kPage;
  const auto end = (reinterpret_cast<std::uintptr_t>(data) + bytes) / kPage * kPage;
  // An advice: where pages are larger, or the system has no large ones, nothing is lost.
  static_cast<void>(::madvise(reinterpret_cast<void*>(begin), end - begin, MADV_HUGEPAGE));
#else
  static_cast<void>(data), static_cast<void>(bytes);
#endif
}

Rows::Rows(const mx::array& a) : data_(a.data<void>()) {
  const int axes = static_cast<int>(a.ndim());
  length_ = axes ? a.shape(-1) : 1;
  count_ = length_ ? static_cast<std::int64_t>(a.size()) / length_ : 0;
  if (axes && a.strides(-1) != 1 && length_ > 1) {
    copy_ = Scratch<std::byte>(a.nbytes());
    copy_strided(a, copy_.data());
    data_ = copy_.data();
    sizes_ = {count_};
    strides_ = {length_};
    return;
  }
  for (int d = 0; d + 1 < axes; ++d) {
    if (a.shape(d) == 1) continue;
    const std::int64_t size = a.shape(d), stride = a.strides(d);
    if (!sizes_.empty() && strides_.back() == size * stride) {
      sizes_.back() *= size;
      strides_.back() = stride;
    } else {
      sizes_.push_back(size);
      strides_.push_back(stride);
    }
  }
}

std::int64_t Rows::offset(std::int64_t row) const {
  std::int64_t from = 0;
  for (std::size_t d = sizes_.size(); d-- > 1;) {
    from += row % sizes_[d] * strides_[d];
    row /= sizes_[d];
  }
  return sizes_.empty() ? 0 : from + row * strides_[0];
}

Dense::Dense(const mx::array& a) : data_(a.data<void>()) {
  if (a.flags().row_contiguous) return;
  copy_ = Scratch<std::byte>(a.nbytes());
  data_ = copy_.data();
  if (a.ndim() == 0 || a.strides(-1) != 1) {
    copy_strided(a, copy_.data());
    return;
  }
  const Rows rows(a);
  const auto bytes = static_cast<std::size_t>(rows.length()) * a.itemsize();
  auto* out = copy_.data();
  for (std::int64_t i = 0; i < rows.count(); ++i, out += bytes) {
    const void* from = a.itemsize() == 2 ? static_cast<const void*>(rows.row<Bf16>(i))
                                         : static_cast<const void*>(rows.row<float>(i));
    std::memcpy(out, from, bytes);
  }
}

std::vector<float> floats_of(const mx::array& a) {
  const Dense dense(a);
  std::vector<float> out(a.size());
  const auto count = static_cast<std::int64_t>(a.size());
  if (a.dtype() == mx::bfloat16)
    widen(dense.data<Bf16>(), out.data(), count);
  else
    std::copy_n(dense.data<float>(), count, out.data());
  return out;
}

int thread_count() {
  return omp_get_max_threads();
}

void parallel_ranges(std::int64_t count, std::int64_t bytes_each,
                     const std::function<void(std::int64_t, std::int64_t)>& work) {
  // Waking a thread costs a few microseconds, in which one thread moves about this much.
  constexpr std::int64_t kWorthAThread = 64 << 10;
  const std::int64_t useful = std::max<std::int64_t>(count * bytes_each / kWorthAThread, 1);
  const auto parts = std::min<std::int64_t>({thread_count(), count, useful});
  if (parts <= 1) {
    if (count > 0) work(0, count);
    return;
  }
#pragma omp parallel for schedule(static) num_threads(static_cast <int>(parts))
  for (std::int64_t part = 0; part < parts; ++part)
    work(count * part / parts, count * (part + 1) / parts);
}

void parallel_tasks(std::int64_t count, const std::function<void(std::int64_t, int)>& task) {
  const auto threads = static_cast<int>(std::min<std::int64_t>(thread_count(), count));
  if (threads <= 1) {
    for (std::int64_t i = 0; i < count; ++i) task(i, 0);
    return;
  }
#pragma omp parallel for schedule(dynamic, 1) num_threads(threads)
  for (std::int64_t i = 0; i < count; ++i) task(i, omp_get_thread_num());
}

}  // namespace klein::ops::native
