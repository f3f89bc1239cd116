#include <array>
#include <limits>
#include <thread>

#include "unit/quant/support.h"

namespace klein::quant {
namespace {

using test::count_unequal;
using test::Fixture;
using test::Packed;

constexpr std::array kBlockFormats = {Format::q4_0, Format::q4_1, Format::q5_0, Format::q5_1,
                                      Format::q8_0, Format::q2_k, Format::q3_k, Format::q4_k,
                                      Format::q5_k, Format::q6_k};

/// The case whose tensors begin with `prefix`; its shape is that of `output`.
Packed packed(const Fixture& f, const std::string& prefix, Layout layout,
              const std::string& output = "output") {
  Packed p;
  p.view.layout = layout;
  const auto& shape = f.info(prefix + output).shape;
  p.view.rows = shape[0];
  p.view.columns = shape[1];
  p.codes = f.values<std::byte>(prefix + "codes");
  if (layout.group_size > 0) {
    p.scales = f.values<std::byte>(prefix + "scales");
    p.view.scales_per_row = p.view.columns / layout.group_size;
  }
  if (layout.format == Format::affine) p.biases = f.values<std::byte>(prefix + "biases");
  return p;
}

TEST_SUITE("quant/decode") {
  TEST_CASE(
      "affine matrices of all widths, groups and types of scales decode as MLX decodes them") {
    const Fixture f("affine");
    for (const int bits : {2, 3, 4, 5, 6, 8})
      for (const int group : {32, 64, 128})
        for (const auto& [type, name] :
             {std::pair(ScaleType::float32, "float32"), std::pair(ScaleType::float16, "float16"),
              std::pair(ScaleType::bfloat16, "bfloat16")}) {
          if (group != 64 && type != ScaleType::float32) continue;
          const auto prefix = std::to_string(bits) + "_" + std::to_string(group) + "_" + name + ".";
          CAPTURE(prefix);
          auto p = packed(f, prefix, {Format::affine, bits, group, false, type});
          CHECK(count_unequal(p.decode(), f.values<float>(prefix + "output")) == 0);
        }
  }

  TEST_CASE("every float8 and int8 code decodes as torch decodes it, with each kind of scale") {
    const Fixture f("bytes");
    for (const auto& [format, name] :
         {std::pair(Format::fp8_e4m3, "fp8_e4m3."), std::pair(Format::fp8_e5m2, "fp8_e5m2."),
          std::pair(Format::int8, "int8.")}) {
      CAPTURE(name);
      const auto want = [&, prefix = std::string(name)](const std::string& tensor) {
        return f.values<float>(prefix + tensor);
      };
      Packed p;
      p.view.layout.format = format;
      p.view.rows = 3;
      p.view.columns = 261;
      p.codes = f.values<std::byte>("codes");
      CHECK(count_unequal(p.decode(), want("unscaled")) == 0);
      p.scales = f.values<std::byte>("scales");
      CHECK(count_unequal(p.decode(), want("one_scale")) == 0);
      p.view.scales_per_row = 1;
      CHECK(count_unequal(p.decode(), want("row_scales")) == 0);
      p.column_scales = f.values<float>("column_scales");
      CHECK(count_unequal(p.decode(), want("columns")) == 0);
      const auto bf16 = f.values<std::uint16_t>(std::string(name) + "bfloat16");
      CHECK(count_unequal(p.decode_bf16(), bf16) == 0);
    }
  }

  TEST_CASE("micro-scaled matrices decode as MLX decodes them") {
    const Fixture f("micro_scaled");
    for (const auto& [layout, prefix] :
         {std::pair(Layout{Format::mxfp8, 0, 32, false, ScaleType::e8m0}, "mxfp8."),
          std::pair(Layout{Format::mxfp4, 0, 32, false, ScaleType::e8m0}, "mxfp4."),
          std::pair(Layout{Format::nvfp4, 0, 16, false, ScaleType::e4m3}, "nvfp4.")}) {
      CAPTURE(prefix);
      auto p = packed(f, prefix, layout);
      CHECK(count_unequal(p.decode(), f.values<float>(std::string(prefix) + "output")) == 0);
    }
  }

  TEST_CASE("every power of two is the scale that torch takes it for, 255 is NaN") {
    const Fixture f("micro_scaled");
    auto p = packed(f, "powers.", {Format::mxfp8, 0, 32, false, ScaleType::e8m0});
    CHECK(count_unequal(p.decode(), f.values<float>("powers.output")) == 0);
  }

  TEST_CASE(
      "NVFP4 with a global scale decodes as comfy-kitchen decodes it, in both nibble orders") {
    const Fixture f("nvfp4_tiled");
    for (const bool high_first : {true, false}) {
      CAPTURE(high_first);
      const std::string output = high_first ? "high_first" : "low_first";
      auto p = packed(f, "", {Format::nvfp4, 0, 16, high_first, ScaleType::e4m3}, output);
      p.codes.resize(static_cast<std::size_t>(p.view.rows) * 48);
      p.view.global_scale = f.values<float>("global_scale")[0];
      CHECK(count_unequal(p.decode(), f.values<float>(output)) == 0);
    }
  }

  TEST_CASE("ggml's blocks decode as gguf decodes them") {
    const Fixture f("ggml");
    for (const auto format : kBlockFormats) {
      const auto prefix = std::string(format_name(format)) + ".";
      CAPTURE(prefix);
      auto p = packed(f, prefix, {format});
      CHECK(count_unequal(p.decode(), f.values<float>(prefix + "output")) == 0);
      CHECK(count_unequal(p.decode_bf16(), f.values<std::uint16_t>(prefix + "bfloat16")) == 0);
    }
  }

  TEST_CASE("a range of rows is a part of the whole, also decoded by several threads") {
    const Fixture f("nvfp4_tiled");
    auto p = packed(f, "", {Format::nvfp4, 0, 16, true, ScaleType::e4m3}, "high_first");
    p.view.global_scale = f.values<float>("global_scale")[0];
    p.use();
    std::vector<float> out(130 * 96, -1.0f);
    std::vector<std::thread> threads;
    for (const int begin : {0, 50, 100})
      threads.emplace_back([&p, &out, begin] {
        decode_rows(p.view, begin, std::min(begin + 50, 130), out.data() + begin * 96);
      });
    for (auto& thread : threads) thread.join();
    CHECK(count_unequal(out, f.values<float>("high_first")) == 0);
    decode_rows(p.view, 3, 3, nullptr);
  }

  TEST_CASE("rows without columns take no time, however many a file states") {
    // Going over 2^40 empty rows would take hours.
    PackedView view{.layout = {.format = Format::fp8_e4m3}, .rows = std::int64_t{1} << 40};
    decode_rows(view, 0, view.rows, nullptr);
    decode_rows_bf16(view, 0, view.rows, nullptr);
    untile_scales({}, view.rows, 0, nullptr);
  }
}

}  // namespace
}  // namespace klein::quant
