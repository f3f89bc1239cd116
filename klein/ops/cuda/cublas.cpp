#include "klein/ops/cuda/cublas.h"

#include <algorithm>
#include <array>
#include <cctype>
#include <cstring>
#include <map>
#include <memory>
#include <mutex>
#include <random>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include <cublasLt.h>
#include <fmt/format.h>

#include "klein/core/error.h"
#include "klein/ops/cuda/driver.h"
#include "klein/ops/cuda/kernel.h"
#include "klein/ops/cuda/saved_algorithms.h"

namespace klein::ops::cuda {
namespace {

constexpr std::size_t kMostWorkspace = std::size_t{32} << 20;
// A smaller block does not lie on the boundary that cuBLASLt asks for.
constexpr std::size_t kLeastWorkspace = 4096;
constexpr int kTried = 16;  // of cuBLASLt's proposals; later ones never won
constexpr int kFirstRuns = 2;
constexpr std::size_t kRacers = 4;
constexpr int kRounds = 3;
constexpr int kRuns = 4;

void expect(cublasStatus_t status, const char* what) {
  if (status != CUBLAS_STATUS_SUCCESS)
    throw Error(ErrorKind::internal,
                fmt::format("cuBLASLt: {} failed with status {}", what, static_cast<int>(status)));
}

cublasLtHandle_t handle() {
  static const cublasLtHandle_t made = [] {
    cublasLtHandle_t h = nullptr;
    expect(cublasLtCreate(&h), "cublasLtCreate");
    return h;
  }();
  return made;
}

template <typename T, cublasStatus_t (*destroy)(T*)>
using Owned = std::unique_ptr<T, decltype([](T* p) { destroy(p); })>;
using MatmulDesc = Owned<std::remove_pointer_t<cublasLtMatmulDesc_t>, cublasLtMatmulDescDestroy>;
using Layout = Owned<std::remove_pointer_t<cublasLtMatrixLayout_t>, cublasLtMatrixLayoutDestroy>;
using Preference =
    Owned<std::remove_pointer_t<cublasLtMatmulPreference_t>, cublasLtMatmulPreferenceDestroy>;

Layout layout(cudaDataType type, int rows, int columns) {
  cublasLtMatrixLayout_t made = nullptr;
  expect(cublasLtMatrixLayoutCreate(&made, type, static_cast<std::uint64_t>(rows),
                                    static_cast<std::uint64_t>(columns), rows),
         "cublasLtMatrixLayoutCreate");
  return Layout(made);
}

template <typename T>
void set(const MatmulDesc& desc, cublasLtMatmulDescAttributes_t attribute, const T& value) {
  expect(cublasLtMatmulDescSetAttribute(desc.get(), attribute, &value, sizeof value),
         "cublasLtMatmulDescSetAttribute");
}

/// What earlier processes found out on a GPU of this name.
SavedAlgorithms& saved() {
  static SavedAlgorithms known = [] {
    cudaDeviceProp gpu{};
    check(cudaGetDeviceProperties(&gpu, 0), "a name");
    std::string name = fmt::format("products-{}-{}.txt", gpu.name, cublasLtGetVersion());
    std::ranges::replace_if(
        name, [](unsigned char c) { return !std::isalnum(c) && c != '-' && c != '.'; }, '_');
    return SavedAlgorithms(cache_file(name));
  }();
  return known;
}

/// GPU memory for as long as algorithms are tried.
class Memory {
 public:
  explicit Memory(std::size_t bytes) {
    if (bytes > 0) check(cudaMalloc(&data_, bytes), "memory to try products in");
  }
  ~Memory() { cudaFree(data_); }
  Memory(const Memory&) = delete;
  Memory& operator=(const Memory&) = delete;

  void* get() const { return data_; }

 private:
  void* data_ = nullptr;
};

/// What cuBLASLt wants to know of a product. It counts columns first, so that its rows are our
/// columns: y^T [N, M] = W x^T.
class Plan {
 public:
  explicit Plan(const ProductShape& shape)
      : shape_(shape),
        weight_(layout(shape.fp8 ? CUDA_R_8F_E4M3 : CUDA_R_16BF, shape.k, shape.n)),
        x_(layout(shape.fp8 ? CUDA_R_8F_E4M3 : CUDA_R_16BF, shape.k, shape.m)),
        y_(layout(CUDA_R_16BF, shape.n, shape.m)) {
    cublasLtMatmulDesc_t made = nullptr;
    expect(cublasLtMatmulDescCreate(&made, CUBLAS_COMPUTE_32F, CUDA_R_32F),
           "cublasLtMatmulDescCreate");
    desc_.reset(made);
    set(desc_, CUBLASLT_MATMUL_DESC_TRANSA, CUBLAS_OP_T);
    if (shape.with_bias) {
      set(desc_, CUBLASLT_MATMUL_DESC_EPILOGUE, CUBLASLT_EPILOGUE_BIAS);
      set(desc_, CUBLASLT_MATMUL_DESC_BIAS_DATA_TYPE, CUDA_R_16BF);
    }
    if (shape.fp8) {
      set(desc_, CUBLASLT_MATMUL_DESC_FAST_ACCUM, std::int8_t{1});
      for (const auto side : {CUBLASLT_MATMUL_DESC_A_SCALE_MODE, CUBLASLT_MATMUL_DESC_B_SCALE_MODE})
        set(desc_, side, std::int32_t{CUBLASLT_MATMUL_MATRIX_SCALE_OUTER_VEC_32F});
    }
    if (!use_saved()) choose();
  }

  cublasStatus_t run(const ProductData& data, cudaStream_t stream,
                     const cublasLtMatmulAlgo_t& algorithm, void* workspace,
                     std::size_t workspace_bytes) const {
    if (shape_.with_bias) set(desc_, CUBLASLT_MATMUL_DESC_BIAS_POINTER, data.bias);
    if (shape_.fp8) {
      set(desc_, CUBLASLT_MATMUL_DESC_A_SCALE_POINTER, data.weight_scales);
      set(desc_, CUBLASLT_MATMUL_DESC_B_SCALE_POINTER, data.x_scales);
    }
    const float one = 1.0f, zero = 0.0f;
    return cublasLtMatmul(handle(), desc_.get(), &one, data.weight, weight_.get(), data.x, x_.get(),
                          &zero, data.y, y_.get(), data.y, y_.get(), &algorithm, workspace,
                          workspace_bytes, stream);
  }

  void launch(Launcher& launcher, const ProductData& data) const {
    void* workspace = nullptr;
    if (workspace_ > 0)
      workspace = address(launcher.scratch(std::max(workspace_, kLeastWorkspace)));
    launcher.capture([&](CUstream stream) {
      expect(run(data, stream, algorithm_, workspace, workspace_), "cublasLtMatmul");
    });
  }

 private:
  bool use_saved() {
    const auto known = saved().find(shape_);
    if (!known) return false;
    static_assert(sizeof known->data == sizeof algorithm_.data);
    std::memcpy(algorithm_.data, known->data.data(), sizeof algorithm_.data);
    cublasLtMatmulHeuristicResult_t result{};
    const auto status = cublasLtMatmulAlgoCheck(handle(), desc_.get(), weight_.get(), x_.get(),
                                                y_.get(), y_.get(), &algorithm_, &result);
    workspace_ = result.workspaceSize;
    return status == CUBLAS_STATUS_SUCCESS && workspace_ <= kMostWorkspace;
  }

  void choose() {
    cublasLtMatmulPreference_t made = nullptr;
    expect(cublasLtMatmulPreferenceCreate(&made), "cublasLtMatmulPreferenceCreate");
    const Preference preference(made);
    expect(cublasLtMatmulPreferenceSetAttribute(made, CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES,
                                                &kMostWorkspace, sizeof kMostWorkspace),
           "cublasLtMatmulPreferenceSetAttribute");
    // Some algorithms are proposed only when these are known to be there.
    const Memory scales(sizeof(float) * static_cast<std::size_t>(std::max(shape_.m, shape_.n)));
    if (shape_.fp8) {
      set(desc_, CUBLASLT_MATMUL_DESC_A_SCALE_POINTER, scales.get());
      set(desc_, CUBLASLT_MATMUL_DESC_B_SCALE_POINTER, scales.get());
    }
    std::array<cublasLtMatmulHeuristicResult_t, kTried> proposed{};
    int count = 0;
    cublasLtMatmulAlgoGetHeuristic(handle(), desc_.get(), weight_.get(), x_.get(), y_.get(),
                                   y_.get(), made, kTried, proposed.data(), &count);
    if (count == 0)
      throw Error(
          ErrorKind::unsupported,
          fmt::format("cuBLASLt has no {} product of [{}, {}] and [{}, {}] for this GPU",
                      shape_.fp8 ? "8-bit" : "bfloat16", shape_.m, shape_.k, shape_.n, shape_.k));
    const auto best =
        count == 1 ? 0 : fastest({proposed.data(), static_cast<std::size_t>(count)}, scales.get());
    algorithm_ = proposed[best].algo;
    workspace_ = proposed[best].workspaceSize;
    Algorithm chosen{.workspace = workspace_};
    std::memcpy(chosen.data.data(), algorithm_.data, sizeof algorithm_.data);
    saved().add(shape_, chosen);
  }

  std::size_t fastest(std::span<cublasLtMatmulHeuristicResult_t> proposed, void* scales) const {
    const auto bytes = [&](int rows, int columns, std::size_t each) {
      return static_cast<std::size_t>(rows) * static_cast<std::size_t>(columns) * each;
    };
    const std::size_t each = shape_.fp8 ? 1 : 2;
    const Memory x(bytes(shape_.m, shape_.k, each)), weight(bytes(shape_.n, shape_.k, each)),
        y(bytes(shape_.m, shape_.n, 2)), workspace(kMostWorkspace);
    // Zeros would draw less power and so run faster than any real numbers.
    fill(x.get(), bytes(shape_.m, shape_.k, each));
    fill(weight.get(), bytes(shape_.n, shape_.k, each));
    const ProductData data{x.get(), weight.get(), weight.get(), y.get(), scales, scales};
    const auto try_once = [&](std::size_t i) {
      return run(data, nullptr, proposed[i].algo, workspace.get(), kMostWorkspace);
    };
    check(cudaDeviceSynchronize(), "an answer");
    cudaEvent_t begin = nullptr, end = nullptr;
    check(cudaEventCreate(&begin), "a clock");
    check(cudaEventCreate(&end), "a clock");
    const auto time = [&](std::size_t i, int runs) {
      cudaEventRecord(begin);
      for (int k = 0; k < runs; ++k) try_once(i);
      cudaEventRecord(end);
      cudaEventSynchronize(end);
      float milliseconds = 0.0f;
      cudaEventElapsedTime(&milliseconds, begin, end);
      return milliseconds / static_cast<float>(runs);
    };
    // The clock of the GPU moves while it is measured: the best few of a first look race in turns.
    std::vector<std::pair<float, std::size_t>> times;
    for (std::size_t i = 0; i < proposed.size(); ++i)
      if (try_once(i) == CUBLAS_STATUS_SUCCESS) times.emplace_back(time(i, kFirstRuns), i);
    std::ranges::sort(times);
    if (times.size() > kRacers) times.resize(kRacers);
    for (int round = 0; round < kRounds && times.size() > 1; ++round)
      for (auto& [best_time, i] : times) best_time = std::min(best_time, time(i, kRuns));
    const auto best = times.empty() ? 0 : std::ranges::min(times).second;
    cudaEventDestroy(begin);
    cudaEventDestroy(end);
    return best;
  }

  static void fill(void* to, std::size_t bytes) {
    static const auto random = [] {
      std::vector<std::uint32_t> words(1 << 18);
      std::mt19937 engine(1);
      // No exponent of all ones: neither infinity nor NaN, in bfloat16 nor in e4m3.
      for (auto& word : words) word = static_cast<std::uint32_t>(engine()) & 0xBF3FBF3Fu;
      return words;
    }();
    const auto block = random.size() * sizeof random[0];
    for (std::size_t at = 0; at < bytes; at += block)
      check(cudaMemcpy(static_cast<char*>(to) + at, random.data(), std::min(block, bytes - at),
                       cudaMemcpyHostToDevice),
            "memory to try products in");
  }

  ProductShape shape_;
  Layout weight_, x_, y_;
  MatmulDesc desc_;
  cublasLtMatmulAlgo_t algorithm_{};
  std::size_t workspace_ = 0;
};

/// Calls work(plan), which is made at the first use of a shape, while no other thread has one: a
/// plan is told its operands before it runs.
template <typename Work>
void with_plan(const ProductShape& shape, const Work& work) {
  static std::mutex mutex;
  static std::map<ProductShape, std::unique_ptr<Plan>> plans;
  const std::lock_guard lock(mutex);
  auto& place = plans[shape];
  if (!place) place = std::make_unique<Plan>(shape);
  work(*place);
}

}  // namespace

bool fits_product(const ProductShape& shape) {
  const int step = shape.fp8 ? 16 : 8;
  return shape.m > 0 && shape.n % step == 0 && shape.k % step == 0;
}

void prepare_product(const ProductShape& shape) {
  with_plan(shape, [](const Plan&) {});
}

void launch_product(Launcher& launcher, const ProductShape& shape, const ProductData& data) {
  with_plan(shape, [&](const Plan& plan) { plan.launch(launcher, data); });
}

}  // namespace klein::ops::cuda
