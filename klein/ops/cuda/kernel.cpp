#include "klein/ops/cuda/kernel.h"

#include <algorithm>
#include <map>
#include <mutex>
#include <optional>
#include <string>
#include <utility>

#include <cuda_runtime.h>
#include <fmt/format.h>

#include "mlx/backend/cuda/device.h"
#include "mlx/primitives.h"

#include "klein/core/error.h"
#include "klein/ops/cuda/driver.h"
#include "klein/ops/cuda/images.h"
#include "klein/ops/cuda/memory.h"
#include "klein/tensor/check.h"

namespace klein::ops::cuda {
namespace {

/// The image of a file for the GPU: its own, or one for an older GPU of the same generation.
const KernelImage* find_image(std::string_view file) {
  const int capability = compute_capability();
  const KernelImage* best = nullptr;
  int best_number = 0;
  for (const auto& image : kernel_images()) {
    if (image.file != file) continue;
    const bool exact = image.arch.ends_with('a');
    const int number = std::stoi(std::string(image.arch));
    const bool runs =
        exact ? number == capability : number / 10 == capability / 10 && number <= capability;
    if (!runs || number < best_number) continue;
    best = &image;
    best_number = number;
  }
  return best;
}

CUmodule module_of(const char* file) {
  static std::map<std::string, CUmodule, std::less<>> modules;
  if (const auto found = modules.find(file); found != modules.end()) return found->second;
  const auto* image = find_image(file);
  if (image == nullptr)
    throw Error(ErrorKind::internal, fmt::format("no machine code of {} for this GPU", file));
  CUmodule made = nullptr;
  check(driver().module_load_data(&made, image->code), "the kernels");
  return modules.emplace(file, made).first->second;
}

class GpuKernel : public mx::Primitive {
 public:
  GpuKernel(const char* name, KernelBody body, PortableTwin twin, std::any recipe = {})
      : Primitive(mx::default_stream(mx::Device::gpu)),
        name_(name),
        body_(std::move(body)),
        twin_(std::move(twin)),
        recipe_(std::move(recipe)) {}

  const std::any& recipe() const { return recipe_; }

  const char* name() const override { return name_; }

  void eval_cpu(const std::vector<mx::array>&, std::vector<mx::array>&) override {
    throw Error(ErrorKind::internal, std::string(name_) + " was asked to run on a CPU");
  }

  void eval_gpu(const std::vector<mx::array>& inputs, std::vector<mx::array>& outputs) override {
    Launcher launcher(stream(), inputs);
    for (auto& output : outputs) launcher.allocate(output);
    if (outputs[0].size() > 0) body_(launcher, inputs, outputs);
  }

  std::vector<mx::array> vjp(const std::vector<mx::array>& primals,
                             const std::vector<mx::array>& cotangents,
                             const std::vector<int>& argnums,
                             const std::vector<mx::array>&) override {
    if (!twin_) throw Error(ErrorKind::internal, std::string(name_) + " has no gradient");
    return gradients_of(twin_, primals, cotangents, argnums);
  }

 private:
  const char* name_;
  KernelBody body_;
  PortableTwin twin_;
  std::any recipe_;
};

/// Whatever the flags say, which know nothing of parts of an array.
bool lies_in_row_order(const mx::array& a) {
  if (reinterpret_cast<std::uintptr_t>(address(a)) % 16 != 0) return false;
  std::int64_t stride = 1;
  for (int axis = static_cast<int>(a.ndim()) - 1; axis >= 0; --axis) {
    if (a.shape(axis) != 1 && a.strides(axis) != stride) return false;
    stride *= a.shape(axis);
  }
  return true;
}

bool lies_in_rows(const mx::array& a) {
  if (a.ndim() == 0 || a.ndim() > 4 || a.size() == 0) return false;
  const auto bytes = static_cast<std::int64_t>(a.itemsize());
  const auto aligned = [&](std::int64_t stride) { return stride * bytes % 16 == 0; };
  const int axes = static_cast<int>(a.ndim());
  if (a.strides(-1) != 1 || reinterpret_cast<std::uintptr_t>(address(a)) % 16 != 0) return false;
  // Heads lie behind each other.
  if (axes == 4 && a.shape(2) > 1 && a.strides(2) != a.shape(3)) return false;
  for (int axis = 0; axis < std::min(axes - 1, 2); ++axis)
    if (a.shape(axis) > 1 && !aligned(a.strides(axis))) return false;
  return true;
}

}  // namespace

int compute_capability() {
  static const int capability = [] {
    if (!mx::is_available(mx::Device::gpu)) return 0;
    auto& device = mx::cu::device(mx::Device(mx::Device::gpu, 0));
    return device.compute_capability_major() * 10 + device.compute_capability_minor();
  }();
  return capability;
}

int multiprocessors() {
  static const int count = [] {
    int value = 0;
    check(cudaDeviceGetAttribute(&value, cudaDevAttrMultiProcessorCount, 0), "the GPU's size");
    return value;
  }();
  return count;
}

bool has_image(const char* file) {
  return compute_capability() > 0 && find_image(file) != nullptr;
}

CUfunction function(const char* file, const char* name, std::size_t shared_bytes) {
  static std::mutex mutex;
  static std::map<std::string, CUfunction, std::less<>> functions;
  const std::lock_guard lock(mutex);
  if (const auto found = functions.find(name); found != functions.end()) return found->second;
  CUfunction made = nullptr;
  check(driver().module_get_function(&made, module_of(file), name), name);
  if (shared_bytes > 0)
    check(driver().func_set_attribute(made, CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES,
                                      static_cast<int>(shared_bytes)),
          name);
  return functions.emplace(name, made).first->second;
}

Launcher::Launcher(mx::Stream stream, const std::vector<mx::array>& inputs)
    : encoder_(mx::cu::get_command_encoder(stream)), reads_(inputs) {
  encoder_.device().make_current();
}

void Launcher::allocate(mx::array& array) {
  array.set_data(device_memory(array.nbytes(), encoder_.stream()));
  writes_.push_back(array);
}

mx::array Launcher::scratch(std::size_t bytes) {
  return scratch({static_cast<int>(bytes)}, mx::uint8);
}

mx::array Launcher::scratch(mx::Shape shape, mx::Dtype dtype) {
  mx::array memory(std::move(shape), dtype, nullptr, {});
  allocate(memory);
  encoder_.add_temporary(memory);
  return memory;
}

void Launcher::writes(const mx::array& a) {
  writes_.push_back(a);
}

mx::array Launcher::in_row_order(const mx::array& a) {
  if (lies_in_row_order(a)) return a;
  if (a.ndim() > 4 || a.itemsize() != 2)
    throw Error(ErrorKind::internal, "expected up to four axes of bfloat16, got " + describe(a));
  auto copy = scratch(a.shape(), a.dtype());
  int shape[4] = {1, 1, 1, 1};
  std::int64_t strides[4] = {};
  const int axes = static_cast<int>(a.ndim());
  for (int i = 0; i < axes; ++i) {
    shape[4 - axes + i] = a.shape(i);
    strides[4 - axes + i] = a.strides(i);
  }
  const auto count = static_cast<std::int64_t>(a.size());
  run(function("common", "copy_strided_16"), {blocks_for(count, 256)}, {256}, 0, address(a),
      make_int4(shape[0], shape[1], shape[2], shape[3]),
      longlong4{strides[0], strides[1], strides[2], strides[3]}, count, address(copy));
  reads_.push_back(copy);
  return copy;
}

mx::array Launcher::with_rows(const mx::array& a) {
  return lies_in_rows(a) ? a : in_row_order(a);
}

void Launcher::declare() {
  for (const auto& a : reads_) encoder_.set_input_array(a);
  for (const auto& a : writes_) encoder_.set_output_array(a);
}

void Launcher::launch(CUfunction kernel, Dim grid, Dim block, std::size_t shared_bytes,
                      void** arguments) {
  declare();
  encoder_.add_kernel_node_raw(kernel, dim3(grid.x, grid.y, grid.z),
                               dim3(block.x, block.y, block.z), dim3(0, 0, 0),
                               static_cast<std::uint32_t>(shared_bytes), arguments);
}

void Launcher::capture(const std::function<void(CUstream stream)>& work) {
  declare();
  const auto context = encoder_.capture_context();
  work(encoder_.stream());
}

mx::array gpu_kernel(const char* name, std::vector<mx::array> inputs, mx::Shape shape,
                     mx::Dtype dtype, KernelBody body, PortableTwin twin, std::any recipe) {
  auto kernel =
      std::make_shared<GpuKernel>(name, std::move(body), std::move(twin), std::move(recipe));
  return mx::array(std::move(shape), dtype, std::move(kernel), std::move(inputs));
}

const std::any* detail::any_recipe(const mx::array& a) {
  if (a.status() != mx::array::Status::unscheduled || !a.has_primitive()) return nullptr;
  const auto* kernel = dynamic_cast<const GpuKernel*>(&a.primitive());
  return kernel == nullptr ? nullptr : &kernel->recipe();
}

std::vector<mx::array> gpu_kernel(const char* name, std::vector<mx::array> inputs,
                                  std::vector<mx::Shape> shapes, std::vector<mx::Dtype> dtypes,
                                  KernelBody body) {
  return mx::array::make_arrays(std::move(shapes), dtypes,
                                std::make_shared<GpuKernel>(name, std::move(body), nullptr),
                                inputs);
}

void* address(const mx::array& a) {
  const auto* buffer = static_cast<const mx::cu::CudaBuffer*>(a.buffer().ptr());
  return static_cast<char*>(buffer->data) + a.offset();
}

Rows rows(const mx::array& a, bool heads) {
  if (!lies_in_rows(a)) throw Error(ErrorKind::internal, "expected rows, got " + describe(a));
  const int leading = static_cast<int>(a.ndim()) - (heads ? 2 : 1);
  Rows result{.data = address(a)};
  if (leading > 0) {
    result.length = a.shape(leading - 1);
    result.row_stride = a.strides(leading - 1);
  }
  if (leading > 1) result.batch_stride = a.strides(leading - 2);
  return result;
}

}  // namespace klein::ops::cuda
