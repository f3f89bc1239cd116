// A linear layer of Klein 4B's sizes with every packed weight beside the dense bfloat16 one: 1536
// tokens, 3072 to 9216 columns, random codes. Dense and packed take turns, and the fastest of each
// counts, so that other work on the machine meets both.
// Exact "extra_MB" wants GLIBC_TUNABLES=glibc.malloc.mmap_threshold=1048576: else the process uses
// memory again that it freed before.
#include <algorithm>
#include <chrono>
#include <ctime>
#include <fstream>
#include <limits>
#include <optional>
#include <string>
#include <variant>
#include <vector>

#include <benchmark/benchmark.h>
#ifdef __GLIBC__
#include <malloc.h>
#endif

#include "klein/ops/backend.h"
#include "klein/ops/linear.h"
#include "klein/ops/weight.h"

namespace {

namespace mx = mlx::core;
namespace ops = klein::ops;
using klein::quant::Format;
using klein::quant::Layout;
using klein::quant::ScaleType;

constexpr int kTokens = 1536, kColumns = 3072, kRows = 9216;

/// Whose scales are how many.
enum class Scales { none, whole, rows, groups };

struct Packing {
  std::string name;
  Layout layout;
  Scales scales = Scales::none;
};

std::vector<Packing> packings() {
  std::vector<Packing> all;
  for (const int bits : {3, 4, 5, 6, 8})
    all.push_back({"affine_" + std::to_string(bits),
                   {Format::affine, bits, 64, false, ScaleType::bfloat16},
                   Scales::groups});
  all.push_back({"fp8_e4m3", {Format::fp8_e4m3}, Scales::whole});
  all.push_back({"fp8_e4m3_rows", {Format::fp8_e4m3}, Scales::rows});
  all.push_back({"fp8_e5m2", {Format::fp8_e5m2}, Scales::none});
  all.push_back({"int8", {Format::int8}, Scales::whole});
  all.push_back({"int8_rows", {Format::int8}, Scales::rows});
  all.push_back({"mxfp8", {Format::mxfp8, 8, 32, false, ScaleType::e8m0}, Scales::groups});
  all.push_back({"mxfp4", {Format::mxfp4, 4, 32, false, ScaleType::e8m0}, Scales::groups});
  all.push_back({"nvfp4", {Format::nvfp4, 4, 16, false, ScaleType::e4m3}, Scales::groups});
  all.push_back({"nvfp4_comfy", {Format::nvfp4, 4, 16, true, ScaleType::e4m3}, Scales::groups});
  for (const auto* name : {"Q8_0", "Q6_K", "Q5_K", "Q5_1", "Q5_0", "Q4_K", "Q4_1", "Q4_0", "Q3_K",
                           "Q2_K"})
    all.push_back({name, {*klein::quant::ggml_format(name)}, Scales::none});
  return all;
}

mx::array noise(const mx::Shape& shape) {
  auto a = mx::random::normal(shape, mx::bfloat16);
  mx::eval(a);
  return a;
}

mx::array scales_of(const Layout& layout, const mx::Shape& shape) {
  switch (layout.scale_type) {
    case ScaleType::e8m0:
      return mx::full(shape, mx::array(120, mx::uint8));  // 2^-7
    case ScaleType::e4m3:
      return mx::full(shape, mx::array(0x20, mx::uint8));  // 2^-3
    case ScaleType::bfloat16:
      return mx::full(shape, mx::array(0.01f, mx::bfloat16));
    default:
      return mx::full(shape, mx::array(0.01f));
  }
}

ops::PackedMatrix random_matrix(const Packing& packing) {
  const auto& layout = packing.layout;
  const auto bytes = static_cast<int>(klein::quant::row_bytes(layout, kColumns));
  // Without the second bit of a byte no number or scale within the codes is infinite or NaN.
  auto codes = mx::bitwise_and(mx::random::bits({kRows, bytes / 4}), mx::array(0xbfbfbfbfu));
  ops::PackedMatrix m;
  m.layout = layout;
  m.rows = kRows;
  m.columns = kColumns;
  m.codes = codes;
  if (!ops::is_mlx_format(m)) m.codes = mx::view(codes, mx::uint8);
  if (packing.scales == Scales::whole) m.scales = scales_of(layout, {1, 1});
  if (packing.scales == Scales::rows) m.scales = scales_of(layout, {kRows, 1});
  if (packing.scales == Scales::groups)
    m.scales = scales_of(layout, {kRows, kColumns / layout.group_size});
  if (layout.format == Format::affine) m.biases = m.scales;
  std::vector<mx::array> arrays = {m.codes};
  for (auto* part : {&m.scales, &m.biases})
    if (*part) arrays.push_back(**part);
  mx::eval(arrays);
  return m;
}

/// A line "VmHWM:   123 kB" of /proc/self/status in bytes; nothing on other systems.
std::optional<double> memory(const std::string& key) {
  std::ifstream status("/proc/self/status");
  for (std::string word; status >> word;)
    if (double kilobytes = 0; word == key + ":" && status >> kilobytes) return kilobytes * 1024;
  return std::nullopt;
}

/// The fastest run so far.
struct Fastest {
  double wall = std::numeric_limits<double>::max();
  double processor = wall;  ///< of all threads; other work on the machine hardly changes it

  /// Returns the seconds on the clock.
  template <typename Make>
  double run(const Make& make) {
    const auto start = std::chrono::steady_clock::now();
    const auto used = std::clock();
    mx::eval(make());
    const auto seconds =
        std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
    wall = std::min(wall, seconds);
    processor = std::min(processor, static_cast<double>(std::clock() - used) / CLOCKS_PER_SEC);
    return seconds;
  }
};

/// Bytes that the process holds at the most while `make` runs, beyond what it held before.
template <typename Make>
std::optional<double> extra_bytes(const Make& make) {
  mx::clear_cache();
#ifdef __GLIBC__
  malloc_trim(0);
#endif
  std::ofstream("/proc/self/clear_refs") << 5;  // the peak begins anew
  const auto before = memory("VmRSS");
  mx::eval(make());
  const auto peak = memory("VmHWM");
  if (!before || !peak) return std::nullopt;
  return *peak - *before;
}

void packed_linear(benchmark::State& state, const std::optional<Packing>& packing) {
  ops::set_backend(ops::Backend::native);
  static const auto x = noise({kTokens, kColumns});
  static const ops::Weight dense = noise({kRows, kColumns});
  const ops::Weight weight = packing ? ops::Weight(random_matrix(*packing)) : dense;
  const auto run_dense = [&] { return ops::linear(x, dense); };
  const auto run = [&] { return ops::linear(x, weight); };
  mx::eval(run_dense(), run());

  Fastest of_dense, of_this, of_decoding;
  const auto* matrix = std::get_if<ops::PackedMatrix>(&weight);
  for (auto _ : state) {
    of_dense.run(run_dense);
    state.SetIterationTime(of_this.run(run));
    for (int i = 0; matrix && i < 10; ++i)
      of_decoding.run([&] { return ops::unpack(*matrix, mx::bfloat16); });
  }
  const auto bytes = matrix ? matrix->nbytes() : std::get<mx::array>(weight).nbytes();
  constexpr double kNumbers = 1.0 * kRows * kColumns;
  state.counters["least_s"] = of_this.wall;
  state.counters["of_dense"] = of_this.wall / of_dense.wall;
  state.counters["cpu_s"] = of_this.processor;
  state.counters["cpu_of_dense"] = of_this.processor / of_dense.processor;
  if (matrix) state.counters["decoded/cpu_s"] = kNumbers / of_decoding.processor;
  state.counters["weight_MB"] = static_cast<double>(bytes) * 1e-6;
  state.counters["bits"] = static_cast<double>(bytes) * 8 / kNumbers;
  if (const auto extra = extra_bytes(run)) state.counters["extra_MB"] = *extra * 1e-6;
}

/// Before main, which another file has.
const bool kRegistered = [] {
  const auto add = [](const std::string& name, const std::optional<Packing>& packing) {
    benchmark::RegisterBenchmark(
        ("packed_linear/" + name).c_str(),
        [packing](benchmark::State& state) { packed_linear(state, packing); })
        ->UseManualTime()
        ->Iterations(3)
        ->Unit(benchmark::kMillisecond);
  };
  add("dense_bf16", std::nullopt);
  for (const auto& packing : packings()) add(packing.name, packing);
  return true;
}();

}  // namespace
