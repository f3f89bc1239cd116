#include "klein/ops/backend.h"

#include <atomic>

namespace klein::ops {
namespace {

std::atomic<Backend>& chosen() {
  static std::atomic<Backend> value{Backend::native};
  return value;
}

}  // namespace

void set_backend(Backend backend) noexcept {
  chosen().store(backend, std::memory_order_relaxed);
}

Backend backend() noexcept {
  return chosen().load(std::memory_order_relaxed);
}

bool has_cpu_kernels() noexcept {
#ifdef KLEIN_CPU_KERNELS
  return true;
#else
  return false;
#endif
}

}  // namespace klein::ops
