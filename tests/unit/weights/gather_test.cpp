#include <algorithm>
#include <cstring>

#include <doctest/doctest.h>

#include "klein/io/json.h"
#include "klein/weights/stored_tensor.h"
#include "unit/io/support.h"

namespace klein::weights {
namespace {

using nlohmann::json;

/// A file with these tensors, {name, dtype, shape, bytes} each.
std::filesystem::path file_of(const io::test::TempDir& folder, const json& tensors) {
  json header;
  std::size_t at = 0;
  for (const auto& t : tensors) {
    const auto end = at + t[3].get<std::size_t>();
    header[t[0].get<std::string>()] = {
        {"dtype", t[1]}, {"shape", t[2]}, {"data_offsets", {at, end}}};
    at = end;
  }
  const auto text = header.dump();
  std::string content(8, '\0');
  const std::uint64_t length = text.size();
  std::memcpy(content.data(), &length, sizeof(length));
  return folder.file("x.safetensors", content + text + std::string(at, '\0'));
}

std::string refusal_of(const json& tensors) {
  const io::test::TempDir folder;
  const auto path = file_of(folder, tensors);
  return io::test::message_of(folder, [&] { WeightFiles::open(path); });
}

TEST_SUITE("weights/gather") {
  TEST_CASE("sides that no array has are refused before anything is computed with them") {
    // Empty tensors can state any of them. Each of these made a product of 64 bits overflow, or was
    // cut to 32 bits where an array was made of it.
    const auto largest = 0x7fff'ffff'ffff'ffff;
    const auto message = [](const std::string& name, const std::string& shape) {
      return "expected sides of at most 2147483647 for " + name + ", got " + shape +
             ": DIR/x.safetensors";
    };
    CHECK(refusal_of({{"a.weight", "U8", {0, largest}, 0},
                      {"a.weight_scale", "F8_E4M3", {0}, 0},
                      {"a.weight_scale_2", "F32", json::array(), 4}}) ==
          message("a.weight", "[0, 9223372036854775807]"));
    CHECK(refusal_of({{"a.weight", "U32", {0, largest}, 0}, {"a.scales", "F16", {0, 1}, 0}}) ==
          message("a.weight", "[0, 9223372036854775807]"));
    CHECK(
        refusal_of({{"a.weight", "F8_E4M3", {largest, 0}, 0}, {"a.weight_scale", "U8", {0}, 0}}) ==
        message("a.weight", "[9223372036854775807, 0]"));
    CHECK(refusal_of({{"bias", "BF16", {4294967296, 0}, 0}}) == message("bias", "[4294967296, 0]"));
    // What is unpacked counts, too: 2^31 columns in 2^30 bytes.
    CHECK(refusal_of({{"a.weight", "U8", {0, 1073741824}, 0},
                      {"a.weight_scale", "F8_E4M3", {0}, 0},
                      {"a.weight_scale_2", "F32", json::array(), 4}}) ==
          message("a.weight", "[0, 2147483648]"));
  }

  TEST_CASE("a scale for each row needs rows") {
    CHECK(refusal_of({{"a.weight", "F8_E4M3", {4}, 4}, {"a.weight_scale", "F32", {4}, 16}}) ==
          "expected a.weight_scale to hold one scale, or one for each of the 1 rows, got [4]: "
          "DIR/x.safetensors");
  }

  TEST_CASE("scales of columns have to be floats that arrays have") {
    CHECK(refusal_of({{"a.weight", "U8", {1, 8}, 8},
                      {"a.weight_scale", "F8_E4M3", {512}, 512},
                      {"a.weight_scale_2", "F32", json::array(), 4},
                      {"a.pre_quant_scale", "F64", {16}, 128}}) ==
          "expected scales of type F32, F16 or BF16, got F64 for a.pre_quant_scale: "
          "DIR/x.safetensors");
  }
}

}  // namespace
}  // namespace klein::weights
