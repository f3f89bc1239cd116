#include "klein/tensor/device.h"

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

mx::Dtype mlx_dtype(Precision precision) {
  return precision == Precision::float32 ? mx::float32 : mx::bfloat16;
}

}  // namespace klein
