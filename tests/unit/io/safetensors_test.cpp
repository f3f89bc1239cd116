#include "klein/io/safetensors.h"

#include <cstring>
#include <limits>

#include <doctest/doctest.h>

#include "unit/io/support.h"

namespace klein::io {
namespace {

using test::content;
using test::error_of;
using test::message_of;
using test::TempDir;

/// A file as a writer without scruples makes it.
std::string raw_file(std::uint64_t length, const std::string& header, std::size_t data_bytes) {
  std::string file(8, '\0');
  for (std::size_t i = 0; i < 8; ++i) file[i] = static_cast<char>(length >> (8 * i) & 0xff);
  return file + header + std::string(data_bytes, 'd');
}

std::string file_of(const std::string& header, std::size_t data_bytes) {
  return raw_file(header.size(), header, data_bytes);
}

/// The header of one tensor `a`.
std::string one(const std::string& dtype, const std::string& shape, const std::string& offsets) {
  return R"({"a":{"dtype":)" + dtype + R"(,"shape":)" + shape + R"(,"data_offsets":)" + offsets +
         "}}";
}

std::string entry(const std::string& name, int begin, int end) {
  return '"' + name + R"(":{"dtype":"U8","shape":[)" + std::to_string(end - begin) +
         R"(],"data_offsets":[)" + std::to_string(begin) + ',' + std::to_string(end) + "]}";
}

TensorView view(const std::string& name, Dtype dtype, std::vector<std::int64_t> shape,
                std::string_view data) {
  return {name, dtype, std::move(shape), as_bytes(data)};
}

TEST_SUITE("io/safetensors") {
  TEST_CASE("a sound file is read: scalars, empty sides, metadata and trailing spaces") {
    const TempDir dir;
    const std::string header = R"({"__metadata__":{"format":"pt"},)"
                               R"("b":{"dtype":"BF16","shape":[2,3],"data_offsets":[0,12]},)"
                               R"("scalar":{"dtype":"I64","shape":[],"data_offsets":[12,20]},)"
                               R"("none":{"dtype":"F32","shape":[0,7],"data_offsets":[12,12]}}   )";
    std::string text = file_of(header, 20);
    text.back() = '!';
    const auto file = SafetensorsFile::open(dir.file("a.safetensors", text));
    REQUIRE(file.tensors().size() == 3);
    CHECK(file.tensors()[0].name == "b");
    CHECK(file.tensors()[1].name == "none");
    CHECK(file.tensors()[1].bytes() == 0);
    CHECK(file.metadata() == std::map<std::string, std::string>{{"format", "pt"}});
    const auto* scalar = file.find("scalar");
    REQUIRE(scalar != nullptr);
    CHECK(scalar->dtype == Dtype::int64);
    CHECK(scalar->shape.empty());
    CHECK(scalar->begin == 8 + header.size() + 12);
    CHECK(scalar->end == text.size());
    CHECK(static_cast<char>(file.bytes(*scalar).back()) == '!');
    CHECK(file.find("__metadata__") == nullptr);
    CHECK(file.find("c") == nullptr);
  }

  TEST_CASE("a file without tensors is sound") {
    const TempDir dir;
    CHECK(SafetensorsFile::open(dir.file("a", file_of("{}", 0))).tensors().empty());
    CHECK(SafetensorsFile::open(dir.file("a", file_of(R"({"__metadata__":null})", 0)))
              .metadata()
              .empty());
  }

  TEST_CASE("the mapping outlives the file object that made it") {
    const TempDir dir;
    std::shared_ptr<const MappedFile> mapping;
    {
      const auto file =
          SafetensorsFile::open(dir.file("a", file_of(one("\"U8\"", "[1]", "[0,1]"), 1)));
      mapping = file.file();
    }
    CHECK(static_cast<char>(mapping->bytes().back()) == 'd');
  }

  TEST_CASE("every element type has its name and size") {
    int count = 0;
    for (const auto* name : {"BOOL", "U8", "I8", "F8_E5M2", "F8_E4M3", "I16", "U16", "F16", "BF16",
                             "I32", "U32", "F32", "F64", "I64", "U64"}) {
      const auto dtype = parse_dtype(name);
      REQUIRE(dtype.has_value());
      CHECK(dtype_name(*dtype) == name);
      ++count;
    }
    CHECK(count == 15);
    CHECK(!parse_dtype("bf16").has_value());
    CHECK(dtype_bytes(Dtype::float8_e4m3) == 1);
    CHECK(dtype_bytes(Dtype::bfloat16) == 2);
    CHECK(dtype_bytes(Dtype::uint32) == 4);
    CHECK(dtype_bytes(Dtype::float64) == 8);
  }

  TEST_CASE("a lying file is refused with what is wrong") {
    const std::string max = "9223372036854775807", over = "9223372036854775808";
    struct Case {
      std::string file, complaint;
    };
    const std::vector<Case> cases = {
        // The header as a whole.
        {"", "got 0 bytes where its header length takes 8"},
        {"1234567", "got 7 bytes where its header length takes 8"},
        {raw_file(0, "", 0), "got a header that starts with \"\" instead of {"},
        {raw_file(10, "{}", 3), "expected 10 bytes of header, the file has 5"},
        {raw_file(100'000'001, "{}", 0),
         "got a header of 100000001 bytes where at most 100000000 are allowed"},
        {raw_file(~std::uint64_t{0}, "{}", 0),
         "got a header of 18446744073709551615 bytes where at most 100000000 are allowed"},
        {raw_file(~std::uint64_t{0} - 7, "{}", 0),
         "got a header of 18446744073709551608 bytes where at most 100000000 are allowed"},
        {file_of(" {}", 0), "got a header that starts with \" \" instead of {"},
        {file_of("[]", 0), "got a header that starts with \"[\" instead of {"},
        {"version https://git-lfs.github.com/spec/v1\noid", "got a Git LFS pointer"},
        // Entries.
        {file_of(R"({"a":1})", 0), "got `a` as 1 instead of an object"},
        {file_of(R"({"a":[1,2]})", 0), "got `a` as an array of 2 instead of an object"},
        {file_of(R"({"a":{"shape":[1],"data_offsets":[0,1]}})", 1), "got `a` without a dtype"},
        {file_of(R"({"a":{"dtype":"U8","data_offsets":[0,1]}})", 1), "got `a` without a shape"},
        {file_of(R"({"a":{"dtype":"U8","shape":[1]}})", 0), "got `a` without two data_offsets"},
        {file_of(one("\"F4\"", "[1]", "[0,1]"), 1), "got `a` with the unknown dtype \"F4\""},
        {file_of(one("\"\\u001b[2J\"", "[1]", "[0,1]"), 1),
         "got `a` with the unknown dtype \"\\x1b[2J\""},
        {file_of(one("7", "[1]", "[0,1]"), 1), "got `a` without a dtype"},
        // Shapes.
        {file_of(one("\"U8\"", "1", "[0,1]"), 1), "got `a` without a shape"},
        {file_of(one("\"U8\"", "[-1]", "[0,1]"), 1), "got `a` with -1 as a side"},
        {file_of(one("\"U8\"", "[1.0]", "[0,1]"), 1), "got `a` with 1.0 as a side"},
        {file_of(one("\"U8\"", "[\"1\"]", "[0,1]"), 1), "got `a` with \"1\" as a side"},
        {file_of(one("\"U8\"", "[[1]]", "[0,1]"), 1), "got `a` with an array of 1 as a side"},
        {file_of(one("\"U8\"", "[" + over + "]", "[0,1]"), 1),
         "got `a` with " + over + " as a side"},
        {file_of(one("\"U8\"", "[1e30]", "[0,1]"), 1), "got `a` with 1e+30 as a side"},
        {file_of(one("\"F32\"", "[" + max + "]", "[0,4]"), 4),
         "got `a` of the impossible size F32 [" + max + "]"},
        {file_of(one("\"U8\"", "[4294967296,4294967296]", "[0,0]"), 0),
         "got `a` of the impossible size U8 [4294967296, 4294967296]"},
        {file_of(one("\"U8\"", "[4294967297,4294967297,0]", "[0,0]"), 0),
         "got `a` of the impossible size U8 [4294967297, 4294967297, 0]"},
        {file_of(one("\"F16\"", "[2,3]", "[0,6]"), 6),
         "got `a` with 6 bytes where F16 [2, 3] takes 12"},
        {file_of(one("\"F32\"", "[]", "[0,0]"), 0), "got `a` with 0 bytes where F32 [] takes 4"},
        // Offsets.
        {file_of(one("\"U8\"", "[1]", "[0,1,2]"), 2), "got `a` without two data_offsets"},
        {file_of(one("\"U8\"", "[1]", "[-1,0]"), 2), "got `a` without two data_offsets"},
        {file_of(one("\"U8\"", "[1]", "[0.0,1.0]"), 1), "got `a` without two data_offsets"},
        {file_of(one("\"U8\"", "[1]", "{\"begin\":0}"), 1), "got `a` without two data_offsets"},
        {file_of(one("\"U8\"", "[1]", "[2,1]"), 2), "got `a` from byte 2 to 1"},
        {file_of(one("\"U8\"", "[2]", "[0,2]"), 1), "got `a` up to byte 2 of 1 bytes of data"},
        {file_of(one("\"U8\"", "[1]", "[" + max + ',' + max + ']'), 1),
         "got `a` up to byte " + max + " of 1 bytes of data"},
        {file_of(one("\"U8\"", "[1]", "[0,18446744073709551616]"), 1),
         "got `a` without two data_offsets"},
        // Tensors against each other.
        {file_of('{' + entry("a", 0, 4) + ',' + entry("b", 2, 6) + '}', 6),
         "got `b` over the bytes of `a`"},
        {file_of('{' + entry("a", 0, 4) + ',' + entry("b", 0, 4) + '}', 4),
         "got `b` over the bytes of `a`"},
        {file_of('{' + entry("a", 0, 6) + ',' + entry("b", 2, 4) + '}', 6),
         "got `b` over the bytes of `a`"},
        {file_of('{' + entry("a", 0, 4) + ',' + entry("b", 6, 8) + '}', 8),
         "got 2 bytes before `b` that belong to no tensor"},
        {file_of('{' + entry("a", 3, 4) + '}', 4),
         "got 3 bytes before `a` that belong to no tensor"},
        {file_of('{' + entry("a", 0, 4) + '}', 9),
         "got 5 bytes at its end that belong to no tensor"},
        {file_of("{}", 1), "got 1 bytes at its end that belong to no tensor"},
        {file_of('{' + entry("a", 0, 4) + ',' + entry("a", 0, 4) + '}', 4), "got `a` twice"},
        // Metadata.
        {file_of(R"({"__metadata__":[]})", 0),
         "got `__metadata__` as an array of 0 instead of an object"},
        {file_of(R"({"__metadata__":{"n":1}})", 0), "got `__metadata__.n` as 1 instead of a text"},
    };
    const TempDir dir;
    for (const auto& c : cases) {
      const auto path = dir.file("a.safetensors", c.file);
      const auto open = [&] { SafetensorsFile::open(path); };
      CHECK(message_of(dir, open) ==
            "expected a safetensors file, " + c.complaint + ": DIR/a.safetensors");
      CHECK(error_of(open).kind() == ErrorKind::format);
    }
  }

  TEST_CASE("a header that is no JSON says where") {
    const TempDir dir;
    const auto message = [&](const std::string& header) {
      const auto path = dir.file("a", file_of(header, 0));
      return message_of(dir, [&] { SafetensorsFile::open(path); });
    };
    CHECK(message("{\"a\":}") ==
          "expected JSON, got an error at line 1, column 6 (unexpected '}'; expected '[', '{', or "
          "a literal): DIR/a (header)");
    CHECK(message(std::string("{}\0\0", 4)) ==
          "expected JSON, got a zero byte at line 1, column 3: DIR/a (header)");
    CHECK(message("{\"a\":" + std::string(100000, '[')) ==
          "expected JSON nested at most 256 deep, got more at line 1, column 261: DIR/a (header)");
  }

  TEST_CASE("all complaints come in one message, ten of them in full") {
    const TempDir dir;
    std::string header = "{";
    for (int i = 0; i < 12; ++i) {
      const std::string digit(1, static_cast<char>('a' + i));
      header += '"' + digit + "\":" + std::to_string(i) + (i < 11 ? "," : "}");
    }
    std::string listed;
    for (int i = 0; i < 10; ++i) {
      listed += std::string("`") + static_cast<char>('a' + i) + "` as " + std::to_string(i) +
                " instead of an object; ";
    }
    const auto path = dir.file("f", file_of(header, 0));
    CHECK(message_of(dir, [&] { SafetensorsFile::open(path); }) ==
          "expected a safetensors file, got " + listed + "and 2 more: DIR/f");
  }

  TEST_CASE("a file cut short says that it is incomplete") {
    const TempDir dir;
    const auto whole = file_of('{' + entry("a", 0, 4) + ',' + entry("b", 4, 8) + '}', 8);
    for (const std::size_t kept : {whole.size() - 1, whole.size() - 8, std::size_t{60}}) {
      const auto path = dir.file("a", whole.substr(0, kept));
      const auto error = error_of([&] { SafetensorsFile::open(path); });
      CHECK(error.hint() == "The file is incomplete; fetch it again");
    }
  }

  TEST_CASE("missing files and folders keep their own errors") {
    const TempDir dir;
    CHECK(error_of([&] { SafetensorsFile::open(dir / "none"); }).kind() == ErrorKind::not_found);
    CHECK(error_of([&] { SafetensorsFile::open(dir.path()); }).kind() == ErrorKind::io);
  }
}

TEST_SUITE("io/safetensors_writer") {
  TEST_CASE("a file is written byte for byte as the reference implementation writes it") {
    const TempDir dir;
    const std::string data(8, '\0');
    const std::string_view zeros(data);
    std::vector<TensorView> tensors;
    for (const auto* name : {"BOOL", "U8", "I8", "F8_E5M2", "F8_E4M3", "I16", "U16", "F16", "BF16",
                             "I32", "U32", "F32", "F64", "I64", "U64"}) {
      const Dtype dtype = *parse_dtype(name);
      tensors.push_back(view(name, dtype, {1}, zeros.substr(0, dtype_bytes(dtype))));
    }
    tensors.push_back(view("A", Dtype::float32, {}, zeros.substr(0, 4)));
    write_safetensors(dir / "a", tensors, {{"a", "\xc3\xbc\x01\x7f/"}});
    // safetensors 0.8.0, safetensors.torch.save of the same tensors.
    const std::string header =
        "{\"__metadata__\":{\"a\":\"\xc3\xbc\\u0001\x7f/\"},"
        R"("U64":{"dtype":"U64","shape":[1],"data_offsets":[0,8]},)"
        R"("I64":{"dtype":"I64","shape":[1],"data_offsets":[8,16]},)"
        R"("F64":{"dtype":"F64","shape":[1],"data_offsets":[16,24]},)"
        R"("A":{"dtype":"F32","shape":[],"data_offsets":[24,28]},)"
        R"("F32":{"dtype":"F32","shape":[1],"data_offsets":[28,32]},)"
        R"("U32":{"dtype":"U32","shape":[1],"data_offsets":[32,36]},)"
        R"("I32":{"dtype":"I32","shape":[1],"data_offsets":[36,40]},)"
        R"("BF16":{"dtype":"BF16","shape":[1],"data_offsets":[40,42]},)"
        R"("F16":{"dtype":"F16","shape":[1],"data_offsets":[42,44]},)"
        R"("U16":{"dtype":"U16","shape":[1],"data_offsets":[44,46]},)"
        R"("I16":{"dtype":"I16","shape":[1],"data_offsets":[46,48]},)"
        R"("F8_E4M3":{"dtype":"F8_E4M3","shape":[1],"data_offsets":[48,49]},)"
        R"("F8_E5M2":{"dtype":"F8_E5M2","shape":[1],"data_offsets":[49,50]},)"
        R"("I8":{"dtype":"I8","shape":[1],"data_offsets":[50,51]},)"
        R"("U8":{"dtype":"U8","shape":[1],"data_offsets":[51,52]},)"
        R"("BOOL":{"dtype":"BOOL","shape":[1],"data_offsets":[52,53]}})";
    const std::string written = content(dir / "a");
    std::uint64_t length = 0;
    std::memcpy(&length, written.data(), 8);
    CHECK(length % 8 == 0);
    CHECK(length - header.size() < 8);
    CHECK(written.substr(8, header.size()) == header);
    CHECK(written.size() == 8 + length + 53);
    CHECK(SafetensorsFile::open(dir / "a").tensors().size() == 16);
  }

  TEST_CASE("what is written is read again") {
    const TempDir dir;
    write_safetensors(dir / "a", {view("x \"ö\"", Dtype::uint8, {2, 2}, "abcd"),
                                  view("empty", Dtype::float32, {3, 0}, "")});
    const auto file = SafetensorsFile::open(dir / "a");
    const auto* tensor = file.find("x \"ö\"");
    REQUIRE(tensor != nullptr);
    CHECK(tensor->shape == std::vector<std::int64_t>{2, 2});
    CHECK(std::memcmp(file.bytes(*tensor).data(), "abcd", 4) == 0);
    CHECK(tensor->begin % 8 == 0);
    CHECK(file.metadata().empty());
  }

  TEST_CASE("what does not fit together is not written") {
    const TempDir dir;
    const auto write = [&](const std::vector<TensorView>& tensors) {
      return [&dir, tensors] { write_safetensors(dir / "a", tensors); };
    };
    const auto size = write({view("x", Dtype::float32, {2}, "1234")});
    CHECK(message_of(dir, size) == "expected the bytes of F32 [2] for `x`, got 4: DIR/a");
    CHECK(error_of(size).kind() == ErrorKind::shape);
    CHECK(error_of(write({view("x", Dtype::uint8, {-1}, "")})).kind() == ErrorKind::shape);
    const auto huge = std::numeric_limits<std::int64_t>::max();
    CHECK(error_of(write({view("x", Dtype::uint8, {huge, huge}, "")})).kind() == ErrorKind::shape);
    CHECK(message_of(
              dir, write({view("x", Dtype::uint8, {1}, "1"), view("x", Dtype::int8, {1}, "1")})) ==
          "expected every tensor once, got `x` twice: DIR/a");
    CHECK(message_of(dir, write({view("__metadata__", Dtype::uint8, {1}, "1")})) ==
          "expected the name of a tensor, got the reserved `__metadata__`: DIR/a");
    CHECK(message_of(dir, write({view("\xff", Dtype::uint8, {1}, "1")})) ==
          "expected a name or text in UTF-8, got \"\\xff\": DIR/a");
    CHECK(dir.count() == 0);
  }

  TEST_CASE("a file that is written tensor by tensor appears when it is whole") {
    const TempDir dir;
    const std::vector<TensorHeader> headers = {{"b", Dtype::float32, {1}},
                                               {"a", Dtype::uint8, {2}}};
    {
      SafetensorsWriter writer(dir / "a", headers, {});
      writer.write(as_bytes("1234"));
      CHECK(message_of(dir, [&] { writer.write(as_bytes("1")); }) ==
            "expected the bytes of U8 [2] for `a`, got 1: DIR/a");
      CHECK(message_of(dir, [&] { writer.commit(); }) ==
            "expected the bytes of U8 [2] for `a`, got none: DIR/a");
    }
    CHECK(dir.count() == 0);
    SafetensorsWriter writer(dir / "a", headers, {});
    writer.write(as_bytes("1234"));
    writer.write(as_bytes("56"));
    writer.commit();
    write_safetensors(dir / "b",
                      {view("a", Dtype::uint8, {2}, "56"), view("b", Dtype::float32, {1}, "1234")});
    CHECK(read_text(dir / "a") == read_text(dir / "b"));
  }

  TEST_CASE("an existing file is refused unless it may be replaced") {
    const TempDir dir;
    write_safetensors(dir / "a", {});
    CHECK(error_of([&] { write_safetensors(dir / "a", {}); }).kind() == ErrorKind::usage);
    CHECK(write_safetensors(dir / "a", {}, {}, Overwrite::number) == dir / "a_1");
    CHECK(write_safetensors(dir / "a", {}, {{"k", "v"}}, Overwrite::replace) == dir / "a");
    CHECK(SafetensorsFile::open(dir / "a").metadata().at("k") == "v");
  }
}

}  // namespace
}  // namespace klein::io
