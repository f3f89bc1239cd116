// Seconds and peak memory of the autoencoder at the size of FLUX.2 Klein with random weights, one
// case a process: a peak is that of the process.
//
//   bench_vae decode|encode off|exact|diffusers|compare HEIGHT [WIDTH] [bfloat16|float32]
//             [STRIP_ROWS]
//
// `compare` prints how far exact is from the whole: the largest difference against the largest
// value, and the mean one against the standard deviation.
#include <cmath>
#include <cstdio>
#include <cstring>
#include <exception>
#include <string>

#include "klein/core/stopwatch.h"
#include "klein/models/flux2/vae_tiling.h"
#include "klein/nn/module.h"
#include "klein/tensor/device.h"
#include "klein/tensor/memory.h"

namespace {

namespace mx = mlx::core;
using namespace klein;

class RandomWeights : public nn::Visitor {
 public:
  explicit RandomWeights(mx::Dtype dtype) : dtype_(dtype) {}

  void on_array(const std::string& path, mx::array& value) override {
    auto filled = value;
    if (value.ndim() > 1) {
      const auto fan_in = value.size() / static_cast<std::size_t>(value.shape(0));
      filled = mx::random::normal(value.shape(), mx::float32, mx::random::key(seed_++)) *
               mx::array(1.0f / std::sqrt(static_cast<float>(fan_in)));
    }
    value = mx::astype(filled, dtype_);
    mx::eval(value);
    (void)path;
  }

 private:
  mx::Dtype dtype_;
  unsigned seed_ = 1;
};

flux2::VaeConfig klein_config() {
  flux2::VaeConfig c;
  c.latent_channels = 32;
  c.block_out_channels = c.decoder_block_out_channels = {128, 256, 512, 512};
  c.layers_per_block = 2;
  return c;
}

int measure(int argc, char** argv) {
  const std::string direction = argv[1], how = argv[2];
  const int height = std::stoi(argv[3]), width = argc > 4 ? std::stoi(argv[4]) : height;
  const auto dtype = argc > 5 && std::string(argv[5]) == "float32" ? mx::float32 : mx::bfloat16;
  use_device(DeviceChoice::automatic);
  flux2::Vae vae(klein_config());
  RandomWeights random(dtype);
  if (direction == "decode")
    vae.decoder.visit(random), random.conv("post_quant_conv", *vae.post_quant_conv);
  else
    vae.encoder.visit(random), random.conv("quant_conv", *vae.quant_conv);

  flux2::VaePlan plan;
  plan.tiling = how == "exact"       ? VaeTiling::exact
                : how == "diffusers" ? VaeTiling::diffusers
                                     : VaeTiling::off;
  plan.strip_rows = argc > 6 ? std::stoi(argv[6]) : 64;
  const bool decode = direction == "decode";
  const int scale = decode ? 8 : 1;
  auto input = mx::astype(
      mx::random::normal({1, height / scale, width / scale, decode ? 32 : 3}, mx::float32,
                         mx::random::key(0)),
      dtype);
  mx::eval(input);
  const auto run = [&] {
    auto result = decode ? flux2::decode(vae, input, plan) : flux2::encode(vae, input, plan);
    mx::eval(result);
    return result;
  };
  if (how == "compare") {
    const auto whole = mx::astype(run(), mx::float32);
    plan.tiling = VaeTiling::exact;
    const auto apart = mx::abs(mx::astype(run(), mx::float32) - whole);
    auto largest = mx::max(apart) / mx::max(mx::abs(whole));
    auto mean = mx::mean(apart) / mx::std(whole);
    std::printf("%s %dx%d strips %d: largest difference %.3g, mean %.3g\n", argv[1], height, width,
                plan.strip_rows, static_cast<double>(largest.item<float>()),
                static_cast<double>(mean.item<float>()));
    return 0;
  }
  const auto before = peak_memory_bytes();
  const Stopwatch watch;
  const auto result = run();
  const double seconds = watch.seconds();
  const auto wide = mx::astype(result, mx::float32);
  std::printf("%s %s %dx%d strips %d: %.2f s, peak %.3f GB, before %.3f GB, mean %.6f std %.6f\n",
              argv[1], argv[2], height, width, plan.strip_rows, seconds,
              static_cast<double>(peak_memory_bytes()) / 1e9, static_cast<double>(before) / 1e9,
              static_cast<double>(mx::mean(wide).item<float>()),
              static_cast<double>(mx::std(wide).item<float>()));
  return 0;
}

}  // namespace

int main(int argc, char** argv) {
  if (argc < 4) {
    std::fputs("usage: see the top of bench/bench_vae.cpp\n", stderr);
    return 2;
  }
  try {
    return measure(argc, argv);
  } catch (const std::exception& error) {
    std::fprintf(stderr, "%s\n", error.what());
    return 1;
  }
}
