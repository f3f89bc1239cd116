#include "klein/tensor/device.h"

#include <fstream>

#include <sys/resource.h>
#include <unistd.h>

#include "klein/core/error.h"

namespace klein {

void use_device(DeviceChoice choice) {
  const bool has_gpu = mx::is_available(mx::Device::gpu);
  if (choice == DeviceChoice::gpu && !has_gpu)
    throw Error(ErrorKind::unsupported, "expected a GPU, found none that this build can use",
                "Leave --device out, or build with the GPU version of MLX (make image CUDA=1).");
  const bool gpu = has_gpu && choice != DeviceChoice::cpu;
  mx::set_default_device(gpu ? mx::Device::gpu : mx::Device::cpu);
}

std::string device_name() {
  return mx::default_device() == mx::Device::gpu ? "gpu" : "cpu";
}

std::uint64_t peak_memory_bytes() {
  if (mx::default_device() == mx::Device::gpu) return mx::get_peak_memory();
  rusage usage{};
  getrusage(RUSAGE_SELF, &usage);
#ifdef __APPLE__
  constexpr std::uint64_t unit = 1;
#else
  constexpr std::uint64_t unit = 1024;
#endif
  return static_cast<std::uint64_t>(usage.ru_maxrss) * unit;
}

std::uint64_t available_memory_bytes() {
  if (mx::default_device() == mx::Device::gpu) {
    const auto limit = mx::get_memory_limit(), used = mx::get_active_memory();
    return limit > used ? limit - used : 0;
  }
  std::ifstream info("/proc/meminfo");
  std::string key, unit;
  for (std::uint64_t kilobytes = 0; info >> key >> kilobytes; std::getline(info, unit))
    if (key == "MemAvailable:") return kilobytes * 1024;
  // Not Linux: all there is, of which the system gives as much as it can.
  return static_cast<std::uint64_t>(::sysconf(_SC_PHYS_PAGES)) *
         static_cast<std::uint64_t>(::sysconf(_SC_PAGESIZE));
}

mx::Dtype mlx_dtype(Precision precision) {
  return precision == Precision::float32 ? mx::float32 : mx::bfloat16;
}

}  // namespace klein
