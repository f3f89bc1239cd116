#include <doctest/doctest.h>

#include "klein/models/flux2/model_files.h"
#include "klein/ops/weight.h"
#include "klein/weights/tensor_map.h"
#include "support/format_files.h"
#include "support/tensors.h"
#include "unit/io/support.h"

namespace klein {
namespace {

namespace fs = std::filesystem;

mx::array numbers_of(const ops::Weight& weight) {
  if (const auto* dense = std::get_if<mx::array>(&weight)) return mx::astype(*dense, mx::float32);
  return ops::unpack(std::get<ops::PackedMatrix>(weight), mx::float32);
}

/// What the packages that made a file decode its tensors to; of two files the later one counts.
weights::TensorMap expected_numbers(const nlohmann::json& part, const fs::path& temp) {
  weights::TensorMap numbers;
  for (const auto& name : part.at("expected")) {
    const auto file = test::unpack_format(name.get<std::string>(), temp);
    for (const auto& [key, value] : mx::load_safetensors(file.string()).first)
      numbers.insert_or_assign(key, mx::astype(value, mx::float32));
  }
  return numbers;
}

/// How often each encoding occurs, as cases.json counts it: "affine 4", "FP8 E4M3"; dense ones only
/// of GGUF files.
std::map<std::string, int> formats_of(const flux2::PartSource& part) {
  std::map<std::string, int> counts;
  for (const auto& tensor : part.files.tensors)
    if (tensor.layout || part.files.path.extension() == ".gguf") {
      auto name = tensor.encoding();
      if (name.ends_with("-bit")) name.resize(name.size() - 4);
      ++counts[name];
    }
  return counts;
}

void check_numbers(const flux2::PartSource& part, const nlohmann::json& expected,
                   const fs::path& temp) {
  CHECK(formats_of(part) == expected.at("formats").get<std::map<std::string, int>>());
  const auto wanted = expected_numbers(expected, temp);
  const auto weights = weights::weight_map(part.files, part.renaming);
  CHECK(weights.size() == wanted.size());
  for (const auto& [name, want] : wanted) {
    CAPTURE(name);
    const auto found = weights.find(name);
    REQUIRE(found != weights.end());
    const auto got = numbers_of(found->second);
    REQUIRE(got.shape() == want.shape());
    CHECK(mx::array_equal(got, want).item<bool>());
  }
}

void check_case(const nlohmann::json& c) {
  const io::test::TempDir temp;
  const auto path = test::unpack_format(c.at("path").get<std::string>(), temp.path());
  const auto& parts = c.at("parts");
  const auto sources = fs::is_directory(path)
                           ? flux2::open_parts(weights::WeightFiles::open_folder(path))
                           : flux2::open_parts(weights::WeightFiles::open(path));
  REQUIRE(sources.size() == parts.size());
  for (std::size_t i = 0; i < sources.size(); ++i) check_numbers(sources[i], parts[i], temp.path());
}

TEST_SUITE("parity/formats") {
  TEST_CASE("every format decodes to the numbers of the packages that wrote it, in every bit") {
    int checked = 0;
    for (const auto& c : test::format_cases()) {
      if (c.contains("refused")) continue;
      const auto path = c.at("path").get<std::string>();
      CAPTURE(path);
      check_case(c);
      ++checked;
    }
    CHECK(checked > 40);
  }
}

}  // namespace
}  // namespace klein
