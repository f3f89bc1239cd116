#include "klein/io/gguf.h"

#include <cstring>
#include <set>

#include <doctest/doctest.h>

#include "unit/io/support.h"

namespace klein::io {
namespace {

using test::content;
using test::error_of;
using test::message_of;
using test::TempDir;

std::filesystem::path fixture(const std::string& name) {
  return std::filesystem::path(KLEIN_TEST_FIXTURES) / "quant" / name;
}

template <typename T>
std::string raw(T value) {
  std::string bytes(sizeof(T), '\0');
  std::memcpy(bytes.data(), &value, sizeof(T));
  return bytes;
}

std::string text(const std::string& value) {
  return raw(std::uint64_t{value.size()}) + value;
}

std::string head(std::uint64_t tensors, std::uint64_t values, std::uint32_t version = 3) {
  return "GGUF" + raw(version) + raw(tensors) + raw(values);
}

std::string value(const std::string& key, std::uint32_t type, const std::string& bytes) {
  return text(key) + raw(type) + bytes;
}

/// One entry; `sides` in ggml's order.
std::string tensor(const std::string& name, const std::vector<std::uint64_t>& sides,
                   std::uint32_t type, std::uint64_t offset) {
  std::string entry = text(name) + raw(static_cast<std::uint32_t>(sides.size()));
  for (const auto side : sides) entry += raw(side);
  return entry + raw(type) + raw(offset);
}

/// The header, zeros up to the next multiple of 32, and data.
std::string with_data(std::string header, std::size_t bytes) {
  header.resize((header.size() + 31) / 32 * 32, '\0');
  return header + std::string(bytes, 'd');
}

constexpr std::uint32_t kF32 = 0, kQ4_0 = 2;

TEST_SUITE("io/gguf") {
  TEST_CASE("a file that gguf wrote is read: every type of tensor, as rows of columns") {
    const auto file = GgufFile::open(fixture("types.gguf"));
    const auto expected = SafetensorsFile::open(fixture("ggml.safetensors"));
    std::set<std::string> types;
    for (const auto& t : file.tensors()) {
      types.insert(t.type);
      if (!t.name.starts_with("blocks.")) continue;
      const auto* codes = expected.find(t.type + ".codes");
      REQUIRE(codes != nullptr);
      CHECK(t.shape == expected.find(t.type + ".output")->shape);
      CHECK(!t.dtype);
      REQUIRE(t.bytes() == codes->bytes());
      CHECK(std::memcmp(file.bytes(t).data(), expected.bytes(*codes).data(), t.bytes()) == 0);
    }
    CHECK(types.size() == 34);
    const auto* other = file.find("other.IQ2_XS");
    REQUIRE(other != nullptr);
    CHECK(other->type == "IQ2_XS");
    CHECK(other->shape == std::vector<std::int64_t>{2, 256});
    CHECK(file.bytes(*other)[147] == std::byte{17});
    CHECK(file.find("none") == nullptr);
  }

  TEST_CASE("plain numbers have the type that safetensors has") {
    const auto file = GgufFile::open(fixture("types.gguf"));
    for (const auto* name : {"F32", "F16", "BF16", "I8", "I16", "I32", "I64", "F64"}) {
      CAPTURE(name);
      const auto* t = file.find(std::string("plain.") + name);
      REQUIRE(t != nullptr);
      CHECK(t->dtype == parse_dtype(name));
      CHECK(t->shape == std::vector<std::int64_t>{3, 4});
    }
    CHECK(file.find("plain.vector")->shape == std::vector<std::int64_t>{5});
    float last = 0;
    std::memcpy(&last, file.bytes(*file.find("plain.F32")).data() + 44, 4);
    CHECK(last == 5.0f);
  }

  TEST_CASE("metadata have their types; texts and lists stay in the file") {
    const auto file = GgufFile::open(fixture("types.gguf"));
    const auto at = [&](const std::string& key) { return file.metadata().at("value." + key); };
    CHECK(std::get<std::uint64_t>(at("u8")) == 200);
    CHECK(std::get<std::int64_t>(at("i8")) == -100);
    CHECK(std::get<std::uint64_t>(at("u16")) == 60000);
    CHECK(std::get<std::int64_t>(at("i16")) == -30000);
    CHECK(std::get<std::uint64_t>(at("u32")) == 4000000000);
    CHECK(std::get<std::int64_t>(at("i32")) == -2000000000);
    CHECK(std::get<std::uint64_t>(at("u64")) == (std::uint64_t{1} << 63) + 1);
    CHECK(std::get<std::int64_t>(at("i64")) == -(std::int64_t{1} << 62));
    CHECK(std::get<double>(at("f32")) == 0.5);
    CHECK(std::get<double>(at("f64")) == 1e-300);
    CHECK(std::get<bool>(at("bool")));
    CHECK(file.text("value.string") == "FLUX.2 \xc3\xbc");
    CHECK(file.text("general.architecture") == "flux2");
    CHECK(file.text("value.u8") == std::nullopt);
    CHECK(file.text("none") == std::nullopt);
    const auto strings = std::get<GgufArray>(at("strings"));
    CHECK(strings.count == 3);
    CHECK(strings.type == 8);
    CHECK(strings.bytes.size() == 3 * 8 + 3);
    const auto ints = std::get<GgufArray>(at("ints"));
    CHECK(ints.count == 3);
    CHECK(ints.bytes.size() == 12);
  }

  TEST_CASE("version 2, other alignments, empty tensors and unknown types are read") {
    const TempDir dir;
    auto older = content(fixture("types.gguf"));
    older[4] = 2;
    CHECK(GgufFile::open(dir.file("v2", older)).tensors().size() ==
          GgufFile::open(fixture("types.gguf")).tensors().size());

    const auto path =
        dir.file("a", with_data(head(3, 1) + value("general.alignment", 4, raw(std::uint32_t{8})) +
                                    tensor("a", {1}, kF32, 0) + tensor("b", {4}, 99, 8) +
                                    tensor("c", {0, 2}, kF32, 8),
                                40));
    const auto file = GgufFile::open(path);
    CHECK(file.find("a")->bytes() == 4);
    CHECK(file.find("b")->type == "type 99");
    CHECK(file.find("b")->bytes() == 0);
    CHECK(file.find("c")->shape == std::vector<std::int64_t>{2, 0});
    CHECK(file.bytes(*file.find("c")).empty());
    CHECK(GgufFile::open(dir.file("empty", head(0, 0))).tensors().empty());
  }

  TEST_CASE("every beginning of a file is refused as incomplete") {
    const TempDir dir;
    const auto whole = content(fixture("types.gguf"));
    const auto file = GgufFile::open(fixture("types.gguf"));
    const auto end = file.tensors().back().end;
    for (std::size_t size = 4; size < end; size += size < 3000 ? 1 : 131) {
      const auto path = dir.file("a", whole.substr(0, size));
      const auto error = error_of([&] { GgufFile::open(path); });
      if (error.hint() != "The file is incomplete; fetch it again") FAIL(size << error.what());
    }
  }

  TEST_CASE("a byte changed anywhere in the header reads as something or is refused") {
    const TempDir dir;
    const auto whole = content(fixture("types.gguf"));
    const auto header = GgufFile::open(fixture("types.gguf")).tensors().front().begin;
    for (std::size_t i = 0; i < header; i += 3) {
      auto broken = whole;
      broken[i] = static_cast<char>(broken[i] ^ (i % 2 ? 0xff : 0x81));
      const auto path = dir.file("a", broken);
      try {
        const auto file = GgufFile::open(path);
        for (const auto& t : file.tensors()) CHECK(t.end <= whole.size());
      } catch (const Error& error) {
        CHECK(error.kind() != ErrorKind::internal);
      }
    }
  }

  TEST_CASE("what is no GGUF file says why") {
    struct Case {
      std::string file;
      std::string complaint;
    };
    const std::uint64_t huge = std::uint64_t{1} << 62;
    const std::string number = raw(std::uint32_t{1});
    const Case cases[] = {
        {"", "a file that starts with \"\""},
        {"GGML----", "a file that starts with \"GGML\""},
        {"version https://git-lfs.github.com/spec/v1\noid", "a Git LFS pointer"},
        {"GGUF\3", "the version of 4 bytes where 1 are left"},
        {head(65537, 0), "65537 tensors where at most 65536 are allowed"},
        {head(0, huge), "4611686018427387904 metadata values where at most 65536 are allowed"},
        // Metadata.
        {head(0, 1) + raw(huge), "a metadata key of 4611686018427387904 bytes where 0 are left"},
        {head(0, 1) + text(std::string(65536, 'k')) + number,
         "a metadata key of 65536 bytes where at most 65535 are allowed"},
        {head(0, 1) + value("k", 13, number), "`k` of the unknown type 13"},
        {head(0, 1) + value("k", 7, "\2"), "`k` as the truth value 2"},
        {head(0, 1) + value("k\x1b", 10, number), "`k\\x1b` of 8 bytes where 4 are left"},
        {head(0, 1) + value("k", 8, raw(~std::uint64_t{0})),
         "`k` of 18446744073709551615 bytes where 0 are left"},
        {head(0, 1) + value("k", 9, number + raw(huge)),
         "`k` with 4611686018427387904 elements in a file of 49 bytes"},
        {head(0, 1) + value("k", 9, raw(std::uint32_t{10}) + raw(std::uint64_t{2}) + "12345678"),
         "`k` of 16 bytes where 8 are left"},
        {head(0, 1) + value("k", 9, raw(std::uint32_t{8}) + raw(huge)),
         "`k` of 8 bytes where 0 are left"},
        {head(0, 1) + value("k", 9, raw(std::uint32_t{77}) + raw(std::uint64_t{0})),
         "`k` as a list of the unknown type 77"},
        {head(0, 2) + value("k", 0, "1") + value("k", 0, "2"), "`k` twice"},
        {head(0, 1) + value("general.alignment", 4, raw(std::uint32_t{24})),
         "`general.alignment` that is no power of two up to 65536"},
        {head(0, 1) + value("general.alignment", 4, raw(std::uint32_t{0})),
         "`general.alignment` that is no power of two up to 65536"},
        {head(0, 1) + value("general.alignment", 8, text("32")),
         "`general.alignment` that is no power of two up to 65536"},
        // Tensors.
        {head(1, 0) + tensor("a", {1, 1, 1, 1, 1}, kF32, 0),
         "`a` with 5 sides where at most 4 are allowed"},
        {head(1, 0) + tensor("a", {huge * 2}, kF32, 0), "`a` with 9223372036854775808 as a side"},
        {head(1, 0) + tensor("a", {huge, 2}, kF32, 0),
         "`a` of the impossible size F32 [2, 4611686018427387904]"},
        {head(1, 0) + tensor("a", {32, huge, huge}, kQ4_0, 0),
         "`a` of the impossible size Q4_0 [4611686018427387904, 4611686018427387904, 32]"},
        {head(1, 0) + tensor("a", {48, 2}, kQ4_0, 0),
         "`a` as Q4_0 [2, 48] where 32 columns make a block"},
        {with_data(head(1, 0) + tensor("a", {2}, kF32, 4), 32),
         "`a` at byte 4, no multiple of the alignment 32"},
        {with_data(head(1, 0) + tensor("a", {9}, kF32, 0), 32),
         "`a` with 36 bytes at byte 0 of 32 bytes of data"},
        {with_data(head(1, 0) + tensor("a", {1}, kF32, 64), 32),
         "`a` with 4 bytes at byte 64 of 32 bytes of data"},
        {with_data(head(1, 0) + tensor("a", {1}, 99, ~std::uint64_t{31}), 32),
         "`a` with 0 bytes at byte 18446744073709551584 of 32 bytes of data"},
        {with_data(head(2, 0) + tensor("a", {9}, kF32, 0) + tensor("b", {1}, kF32, 32), 64),
         "`b` over the bytes of `a`"},
        {with_data(head(2, 0) + tensor("a", {1}, kF32, 0) + tensor("a", {1}, kF32, 32), 64),
         "`a` twice"},
        {with_data(head(2, 0) + tensor("a", {48}, kQ4_0, 0) + tensor("b", {2}, kF32, 4), 32),
         "`a` as Q4_0 [48] where 32 columns make a block; "
         "`b` at byte 4, no multiple of the alignment 32"},
    };
    const TempDir dir;
    for (const auto& c : cases) {
      const auto path = dir.file("a.gguf", c.file);
      const auto open = [&] { GgufFile::open(path); };
      CHECK(message_of(dir, open) == "expected a GGUF file, got " + c.complaint + ": DIR/a.gguf");
      CHECK(error_of(open).kind() == ErrorKind::format);
    }
  }

  TEST_CASE("lists in lists end somewhere") {
    const TempDir dir;
    std::string list;
    for (int i = 0; i < 5; ++i) list += raw(std::uint32_t{9}) + raw(std::uint64_t{1});
    const auto path = dir.file("a", head(0, 1) + value("k", 9, list));
    CHECK(message_of(dir, [&] { GgufFile::open(path); }) ==
          "expected a GGUF file, got `k` with lists nested more than 4 deep: DIR/a");
  }

  TEST_CASE("other versions and byte orders are not supported") {
    const TempDir dir;
    const auto refusal = [&](std::uint32_t version) {
      const auto path = dir.file("a", head(0, 0, version));
      CHECK(error_of([&] { GgufFile::open(path); }).kind() == ErrorKind::unsupported);
      return message_of(dir, [&] { GgufFile::open(path); });
    };
    CHECK(refusal(1) == "expected GGUF version 2 or 3, got 1: DIR/a");
    CHECK(refusal(4) == "expected GGUF version 2 or 3, got 4: DIR/a");
    CHECK(refusal(0x03000000) == "expected a little-endian GGUF file, got a big-endian one: DIR/a");
  }
}

}  // namespace
}  // namespace klein::io
