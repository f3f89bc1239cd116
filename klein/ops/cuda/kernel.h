#pragma once

#include <any>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <vector>

#include <cuda.h>

#include "klein/ops/portable_twin.h"
#include "klein/tensor/mlx.h"

namespace mlx::core::cu {
class CommandEncoder;
}

/// What every GPU kernel needs: a node of MLX's graph, memory of its stream, strided inputs.
namespace klein::ops::cuda {

/// 90 for Hopper; 0 where work does not run on an NVIDIA GPU.
int compute_capability();

/// Of the GPU.
int multiprocessors();

/// Whether this build holds machine code of `file` for the GPU.
bool has_image(const char* file);

/// A function of an image, found once a thread may ask for it. `shared_bytes` is the most dynamic
/// shared memory that a launch will ask for.
///
/// Errors   Error(internal) when the image does not hold it
CUfunction function(const char* file, const char* name, std::size_t shared_bytes = 0);

struct Dim {
  unsigned x = 1, y = 1, z = 1;
};

/// Puts work into MLX's stream while a node of its graph is evaluated.
class Launcher {
 public:
  Launcher(mx::Stream stream, const std::vector<mx::array>& inputs);

  /// Memory for a result of the node, which its shape says the size of.
  void allocate(mx::array& array);

  /// Memory that nothing else uses before the node is done.
  mx::array scratch(std::size_t bytes);
  mx::array scratch(mx::Shape shape, mx::Dtype dtype);

  /// Makes what follows write to this array too, which outlives the node: launches that do wait for
  /// one another.
  void writes(const mx::array& a);

  /// The array where it lies in row order, else a copy.
  mx::array in_row_order(const mx::array& a);

  /// The array where its rows can be read as `Rows` of the kernels and begin on 16 bytes; else a
  /// copy in row order.
  mx::array with_rows(const mx::array& a);

  /// Puts a kernel into the stream; it waits for what writes the inputs.
  template <typename... Arguments>
  void run(CUfunction kernel, Dim grid, Dim block, std::size_t shared_bytes,
           Arguments... arguments) {
    void* pointers[] = {static_cast<void*>(&arguments)...};
    launch(kernel, grid, block, shared_bytes, pointers);
  }

  /// Puts what `work` sends to the stream into it: kernels of a library.
  void capture(const std::function<void(CUstream stream)>& work);

 private:
  void launch(CUfunction kernel, Dim grid, Dim block, std::size_t shared_bytes, void** arguments);
  void declare();

  mx::cu::CommandEncoder& encoder_;
  std::vector<mx::array> reads_, writes_;
};

/// Allocates a node's results and launches what computes them.
using KernelBody = std::function<void(Launcher& launcher, const std::vector<mx::array>& inputs,
                                      std::vector<mx::array>& outputs)>;

/// A lazy array that `body` computes on the GPU. `recipe` says what it is to those who could make
/// it and the next operation in one: see recipe_of.
mx::array gpu_kernel(const char* name, std::vector<mx::array> inputs, mx::Shape shape,
                     mx::Dtype dtype, KernelBody body, PortableTwin twin, std::any recipe = {});

namespace detail {
const std::any* any_recipe(const mx::array& a);
}

/// The recipe of an array that gpu_kernel made and nobody has computed yet; its inputs are those of
/// the array. Whoever makes something of them instead leaves the array to its end uncomputed.
template <typename Recipe>
const Recipe* recipe_of(const mx::array& a) {
  const auto* any = detail::any_recipe(a);
  return any == nullptr ? nullptr : std::any_cast<Recipe>(any);
}

/// Several at once, without gradients.
std::vector<mx::array> gpu_kernel(const char* name, std::vector<mx::array> inputs,
                                  std::vector<mx::Shape> shapes, std::vector<mx::Dtype> dtypes,
                                  KernelBody body);

/// Where an evaluated array lies in the GPU's memory.
void* address(const mx::array& a);

template <typename T>
T* pointer(const mx::array& a) {
  return static_cast<T*>(address(a));
}

/// Rows of [L, n], [B, L, n] or [B, L, H, D] (a row is a token's H heads) as the kernels take them.
struct Rows {
  const void* data = nullptr;
  std::int64_t batch_stride = 0;
  std::int64_t row_stride = 0;
  int length = 1;
};

/// Errors   Error(internal) when `a` did not come from with_rows
Rows rows(const mx::array& a, bool heads = false);

/// Numbers that a thread of the kernels reads at once: 16 bytes of bfloat16.
constexpr int kLanes = 8;

/// All rows along the last axis.
inline int row_count(const mx::array& a) {
  return static_cast<int>(a.size() / static_cast<std::size_t>(a.shape(-1)));
}

/// count / each, rounded up.
inline unsigned blocks_for(std::int64_t count, std::int64_t each) {
  return static_cast<unsigned>((count + each - 1) / each);
}

}  // namespace klein::ops::cuda
