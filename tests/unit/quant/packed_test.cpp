#include "unit/io/support.h"
#include "unit/quant/support.h"

namespace klein::quant {
namespace {

using io::test::error_of;
using test::Fixture;

std::string refusal(const Layout& layout, std::int64_t columns) {
  return error_of([&] { expect_decodable(layout, columns); }).what();
}

TEST_SUITE("quant/packed") {
  TEST_CASE("rows take the bytes that the formats say") {
    CHECK(row_bytes({Format::affine, 3, 64}, 128) == 48);
    CHECK(row_bytes({Format::affine, 4, 64}, 128) == 64);
    CHECK(row_bytes({Format::int8}, 5) == 5);
    CHECK(row_bytes({Format::nvfp4, 0, 16}, 32) == 16);
    CHECK(row_bytes({Format::q8_0}, 64) == 68);
    CHECK(row_bytes({Format::q6_k}, 512) == 420);
    CHECK(row_bytes({Format::affine, 8, 64}, std::int64_t{1} << 61) == std::size_t{1} << 61);
  }

  TEST_CASE("columns decode together by group, by block, or alone") {
    CHECK(block_columns({Format::affine, 4, 64}) == 64);
    CHECK(block_columns({Format::nvfp4, 0, 16}) == 16);
    CHECK(block_columns({Format::q5_1}) == 32);
    CHECK(block_columns({Format::q2_k}) == 256);
    CHECK(block_columns({Format::fp8_e4m3}) == 1);
  }

  TEST_CASE("names and sizes of scales") {
    CHECK(format_name(Format::affine) == "affine");
    CHECK(format_name(Format::fp8_e4m3) == "FP8 E4M3");
    CHECK(format_name(Format::q6_k) == "Q6_K");
    CHECK(ggml_format("Q8_0") == Format::q8_0);
    CHECK(ggml_format("Q8_1") == std::nullopt);
    CHECK(ggml_format("MXFP8") == std::nullopt);
    CHECK(scale_bytes(ScaleType::float32) == 4);
    CHECK(scale_bytes(ScaleType::bfloat16) == 2);
    CHECK(scale_bytes(ScaleType::e4m3) == 1);
  }

  TEST_CASE("what cannot be decoded is refused") {
    CHECK(refusal({Format::affine, 7, 64}, 64) ==
          "expected affine codes of 2, 3, 4, 5, 6 or 8 bits, got 7");
    CHECK(refusal({Format::affine, 9, 64}, 64) ==
          "expected affine codes of 2, 3, 4, 5, 6 or 8 bits, got 9");
    CHECK(refusal({Format::affine, 4, 12}, 64) ==
          "expected affine groups of a multiple of 8 columns, got 12");
    CHECK(refusal({Format::mxfp8}, 64) ==
          "expected MXFP8 groups of a multiple of 8 columns, got 0");
    CHECK(refusal({Format::affine, 4, 64}, 96) ==
          "expected affine columns in whole blocks of 64, got 96");
    CHECK(refusal({Format::q4_k}, 128) == "expected Q4_K columns in whole blocks of 256, got 128");
    CHECK(refusal({Format::q4_k}, -256) ==
          "expected Q4_K columns in whole blocks of 256, got -256");
    CHECK(error_of([] { expect_decodable({Format::q4_k}, 1); }).kind() == ErrorKind::shape);
    CHECK(error_of([] {
            expect_decodable({Format::affine, 1, 64}, 64);
          }).kind() == ErrorKind::unsupported);
    expect_decodable({Format::int8}, 3);
    expect_decodable({Format::affine, 8, 32}, 96);
  }

  TEST_CASE("tiled scales come out in rows, also where rows and columns end inside a tile") {
    const Fixture f("nvfp4_tiled");
    const auto tiled = f.values<std::byte>("tiled_scales");
    std::vector<std::byte> rows(130 * 6);
    untile_scales(tiled, 130, 6, rows.data());
    CHECK(rows == f.values<std::byte>("scales"));
    CHECK(std::string(error_of([&] { untile_scales(tiled, 128, 6, rows.data()); }).what()) ==
          "expected 1024 bytes of tiled scales for [128, 6], got 2048");
  }
}

}  // namespace
}  // namespace klein::quant
