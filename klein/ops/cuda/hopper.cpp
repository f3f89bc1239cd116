#include "klein/ops/cuda/hopper.h"

#include <algorithm>
#include <vector>

#include "klein/ops/cuda/driver.h"
#include "klein/ops/cuda/kernels/hopper_gemm_params.h"

namespace klein::ops::cuda {
namespace {

constexpr const char* kFile = "hopper_gemm";
constexpr int kStep = 64;        // numbers of K in one load
constexpr int kGroup = 16;       // tiles along the rows that are visited together
constexpr int kLeastRows = 512;  // for fewer rows cuBLASLt has better tiles

template <typename Gemm>
void launch(Launcher& launcher, const char* name, const hopper::Maps& maps,
            const hopper::Params& params) {
  const auto blocks = static_cast<unsigned>(std::min(multiprocessors(), params.units));
  launcher.run(function(kFile, name, Gemm::SHARED), {blocks}, {Gemm::THREADS}, Gemm::SHARED, maps,
               params);
}

template <typename Gemm>
void launch_conv_as(Launcher& launcher, const char* name, const mx::array& x,
                    const mx::array& weight, const void* bias, const void* residual,
                    const mx::array& y) {
  constexpr bool doubled = Gemm::INPUT == hopper::UP2;
  const int batch = x.shape(0), height = x.shape(1), width = x.shape(2), channels = x.shape(3);
  const int out = y.shape(3), taps = Gemm::TAPS * Gemm::TAPS;
  const std::int64_t pixel = channels, row = pixel * width, picture = row * height;

  hopper::Maps maps{};
  maps.a[0][0] = tensor_map(address(x), {channels, width, height, batch}, {pixel, row, picture},
                            {kStep, 8, Gemm::BM / 8 + Gemm::TAPS - 1, 1});
  maps.w[0][0] = tensor_map(address(weight), {taps * channels, (doubled ? 4 : 1) * out},
                            {taps * channels}, {kStep, Gemm::BN / 2});
  maps.a[0][1] = maps.a[1][0] = maps.a[1][1] = maps.a[0][0];
  maps.w[0][1] = maps.w[1][0] = maps.w[1][1] = maps.w[0][0];

  hopper::Params params{};
  params.n = out;
  params.n_tiles = (out + Gemm::OUT_N - 1) / Gemm::OUT_N * (doubled ? 4 : 1);
  params.steps = params.steps_1 = channels / kStep * Gemm::TAPS;
  params.group = kGroup;
  params.height = height;
  params.width = width;
  params.across = (width + 7) / 8;
  params.down = (height + Gemm::BM / 8 - 1) / (Gemm::BM / 8);
  const int tiles = batch * params.across * params.down;
  params.problem[0] = {address(y), residual, bias, batch, tiles, out, out};
  params.units = tiles * params.n_tiles;
  launch<Gemm>(launcher, name, maps, params);
}

}  // namespace

bool has_hopper() {
  static const bool found = has_image(kFile);
  return found;
}

CUtensorMap tensor_map(const void* data, std::initializer_list<std::int64_t> sizes,
                       std::initializer_list<std::int64_t> strides,
                       std::initializer_list<int> box) {
  const std::vector<cuuint64_t> extents(sizes.begin(), sizes.end());
  const std::vector<cuuint32_t> boxes(box.begin(), box.end()), steps(sizes.size(), 1);
  std::vector<cuuint64_t> bytes;
  for (const auto stride : strides) bytes.push_back(static_cast<cuuint64_t>(stride) * 2);
  CUtensorMap map{};
  check(driver().tensor_map_encode_tiled(
            &map, CU_TENSOR_MAP_DATA_TYPE_BFLOAT16, static_cast<cuuint32_t>(extents.size()),
            const_cast<void*>(data), extents.data(), bytes.data(), boxes.data(), steps.data(),
            CU_TENSOR_MAP_INTERLEAVE_NONE, CU_TENSOR_MAP_SWIZZLE_128B,
            CU_TENSOR_MAP_L2_PROMOTION_L2_256B, CU_TENSOR_MAP_FLOAT_OOB_FILL_NONE),
        "map of an array");
  return map;
}

bool fits_swiglu_product(int rows, int k, int features) {
  return has_hopper() && rows >= kLeastRows && k % kStep == 0 && features % kStep == 0;
}

void launch_swiglu_product(Launcher& launcher, const mx::array& x, const mx::array& gate,
                           const mx::array& up, void* out, int out_stride) {
  using Gemm = hopper::swiglu_256;
  const int k = x.shape(-1), features = gate.shape(0);
  const int m = row_count(x);
  const auto weight_map = [&](const mx::array& w) {
    return tensor_map(address(w), {k, features}, {k}, {kStep, Gemm::BN / 2});
  };
  hopper::Maps maps{};
  maps.a[0][0] = tensor_map(address(x), {k, m}, {k}, {kStep, Gemm::BM});
  maps.w[0][0] = weight_map(gate);
  maps.w[0][1] = weight_map(up);
  maps.a[0][1] = maps.a[1][0] = maps.a[1][1] = maps.a[0][0];
  maps.w[1][0] = maps.w[1][1] = maps.w[0][0];

  hopper::Params params{};
  params.n = features;
  params.n_tiles = (features + Gemm::OUT_N - 1) / Gemm::OUT_N;
  params.steps = params.steps_1 = k / kStep;
  params.group = kGroup;
  const int tiles = (m + Gemm::BM - 1) / Gemm::BM;
  params.problem[0] = {out, nullptr, nullptr, m, tiles, out_stride, 0};
  params.units = tiles * params.n_tiles;
  launch<Gemm>(launcher, "hopper_swiglu_256", maps, params);
}

bool fits_conv(const mx::array& weight) {
  return has_hopper() && weight.shape(1) == 3 && weight.shape(2) == 3 &&
         weight.shape(3) % kStep == 0 && weight.shape(0) % kStep == 0;
}

void launch_conv(Launcher& launcher, const mx::array& x, const mx::array& weight, const void* bias,
                 const void* residual, bool doubled, const mx::array& y) {
  const bool narrow = y.shape(3) <= 128;
  const auto run = [&]<typename Gemm>(Gemm, const char* name) {
    launch_conv_as<Gemm>(launcher, name, x, weight, bias, residual, y);
  };
  if (doubled)
    narrow ? run(hopper::up2_128(), "hopper_up2_128") : run(hopper::up2_256(), "hopper_up2_256");
  else if (residual != nullptr)
    narrow ? run(hopper::conv3_add_128(), "hopper_conv3_add_128")
           : run(hopper::conv3_add_256(), "hopper_conv3_add_256");
  else
    narrow ? run(hopper::conv3_128(), "hopper_conv3_128")
           : run(hopper::conv3_256(), "hopper_conv3_256");
}

}  // namespace klein::ops::cuda
