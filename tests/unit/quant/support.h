#pragma once

#include <bit>
#include <cmath>
#include <cstring>
#include <string>
#include <vector>

#include <doctest/doctest.h>

#include "klein/io/safetensors.h"
#include "klein/quant/packed.h"

namespace klein::quant::test {

/// One file of tests/fixtures/quant.
class Fixture {
 public:
  explicit Fixture(const std::string& name)
      : file_(io::SafetensorsFile::open(std::string(KLEIN_TEST_FIXTURES) + "/quant/" + name +
                                        ".safetensors")) {}

  const io::TensorInfo& info(const std::string& name) const {
    const auto* tensor = file_.find(name);
    REQUIRE_MESSAGE(tensor != nullptr, name);
    return *tensor;
  }

  template <typename T>
  std::vector<T> values(const std::string& name) const {
    const auto bytes = file_.bytes(info(name));
    std::vector<T> values(bytes.size() / sizeof(T));
    if (!values.empty()) std::memcpy(values.data(), bytes.data(), bytes.size());
    return values;
  }

 private:
  io::SafetensorsFile file_;
};

/// A matrix of a fixture, in memory that ends where its last byte ends.
struct Packed {
  std::vector<std::byte> codes, scales, biases;
  std::vector<float> column_scales;
  PackedView view;

  void use() {
    view.codes = codes.data();
    if (!scales.empty()) view.scales = scales.data();
    if (!biases.empty()) view.biases = biases.data();
    if (!column_scales.empty()) view.column_scales = column_scales.data();
  }

  std::vector<float> decode() {
    use();
    expect_decodable(view.layout, view.columns);
    REQUIRE(codes.size() ==
            static_cast<std::size_t>(view.rows) * row_bytes(view.layout, view.columns));
    std::vector<float> out(static_cast<std::size_t>(view.rows * view.columns));
    decode_rows(view, 0, view.rows, out.data());
    return out;
  }

  std::vector<std::uint16_t> decode_bf16() {
    use();
    std::vector<std::uint16_t> out(static_cast<std::size_t>(view.rows * view.columns));
    decode_rows_bf16(view, 0, view.rows, out.data());
    return out;
  }
};

inline float widen(float x) {
  return x;
}
inline float widen(std::uint16_t bits) {
  return std::bit_cast<float>(static_cast<std::uint32_t>(bits) << 16);
}

/// How many numbers have other bits; all NaN count as one number.
template <typename T>
std::size_t count_unequal(const std::vector<T>& got, const std::vector<T>& want) {
  REQUIRE(got.size() == want.size());
  std::size_t count = 0;
  for (std::size_t i = 0; i < got.size(); ++i) {
    const float a = widen(got[i]), b = widen(want[i]);
    if (std::isnan(a) && std::isnan(b)) continue;
    if (std::memcmp(&got[i], &want[i], sizeof(T)) == 0) continue;
    if (count++ == 0) MESSAGE("number " << i << ": got " << a << ", expected " << b);
  }
  return count;
}

}  // namespace klein::quant::test
