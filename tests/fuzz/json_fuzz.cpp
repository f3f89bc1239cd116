#include <string>
#include <vector>

#include "fuzz/support.h"
#include "fuzz/targets.h"
#include "klein/core/error.h"
#include "klein/io/json.h"
#include "klein/models/flux2/config.h"
#include "klein/models/qwen3/config.h"

namespace klein::fuzz {
namespace {

template <typename Act>
void ignore_refusal(const Act& act) {
  try {
    act();
  } catch (const Error& error) {
    expect(error.kind() != ErrorKind::internal, "a refusal is no bug");
  }
}

/// Fields of every type, under names that the seeds have.
void read_fields(const io::JsonReader& json) {
  const auto read = [&](const char* key, auto field) {
    ignore_refusal([&] { json.require(key, field); });
  };
  for (const char* key : {"a", "num_layers", "mlp_ratio", "axes_dims_rope", "eps"}) {
    read(key, bool{});
    read(key, std::int8_t{});
    read(key, std::int64_t{});
    read(key, std::uint16_t{});
    read(key, std::uint64_t{});
    read(key, float{});
    read(key, double{});
    read(key, std::string());
    read(key, std::optional<int>());
    read(key, std::vector<std::vector<int>>());
    read(key, std::array<int, 4>());
    read(key, std::map<std::string, std::string>());
    ignore_refusal([&] { read_fields(json.child(key)); });
  }
}

}  // namespace

void json(std::string_view input) {
  std::vector<std::string> repeated;
  const auto value = io::parse_json(input, "x.json", &repeated);
  io::describe(value);
  expect(io::parse_json(value.dump(), "x.json") == value, "what is written reads the same");
  const io::JsonReader reader(value, "x.json");
  read_fields(reader);
  ignore_refusal([&] {
    const auto config = flux2::TransformerConfig::from_json(reader);
    expect(config.dim() > 0 && config.mlp_dim() > 0, "a transformer has a width");
  });
  ignore_refusal(
      [&] { expect(flux2::VaeConfig::from_json(reader).scale() > 0, "it has a scale"); });
  ignore_refusal([&] {
    const auto config = qwen3::TextEncoderConfig::from_json(reader);
    expect(config.num_attention_heads * config.head_dim > 0, "an encoder has a width");
  });
}

}  // namespace klein::fuzz
