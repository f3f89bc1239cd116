#include <algorithm>
#include <array>

#include <doctest/doctest.h>

#include "klein/core/error.h"
#include "klein/io/json.h"
#include "klein/io/safetensors.h"
#include "klein/models/flux2/config.h"
#include "klein/models/flux2/contents.h"
#include "klein/models/flux2/sizes.h"
#include "klein/models/qwen3/naming.h"
#include "support/format_files.h"
#include "unit/io/support.h"

namespace klein {
namespace {

namespace fs = std::filesystem;

/// Tensors that only say how another one is packed.
bool is_companion(const std::string& name) {
  constexpr std::array endings = {".weight_scale", ".weight_scale_2", ".input_scale",
                                  ".scale_weight", ".scale_input",    ".comfy_quant",
                                  ".scales",       ".biases",         "scaled_fp8"};
  return std::ranges::any_of(endings, [&](const char* end) { return name.ends_with(end); });
}

void add_file(weights::Shapes& shapes, const fs::path& path) {
  const auto file = io::SafetensorsFile::open(path);
  for (const auto& tensor : file.tensors())
    if (!is_companion(tensor.name)) shapes.emplace(tensor.name, tensor.shape);
}

/// Names and stored shapes of a file, or of all safetensors files of a folder.
weights::Shapes stored_shapes(const fs::path& path) {
  weights::Shapes shapes;
  if (!fs::is_directory(path)) {
    add_file(shapes, path);
    return shapes;
  }
  for (const auto& entry : fs::directory_iterator(path))
    if (entry.path().extension() == ".safetensors") add_file(shapes, entry.path());
  return shapes;
}

weights::Shapes expected_shapes(const nlohmann::json& part, const fs::path& temp) {
  weights::Shapes shapes;
  for (const auto& file : part.at("expected"))
    add_file(shapes, test::unpack_format(file.get<std::string>(), temp));
  return shapes;
}

void check_part(const flux2::Part& found, const nlohmann::json& expected, const fs::path& temp) {
  CHECK(flux2::part_name(found.kind) == expected.at("kind").get<std::string>());
  CHECK(found.prefix == expected.at("prefix").get<std::string>());
  const auto names = flux2::renaming(found, "file");
  const auto shapes = expected_shapes(expected, temp);
  CHECK(std::ranges::equal(
      names.origins, shapes, {}, [](const auto& o) { return o.first; },
      [](const auto& s) { return s.first; }));
  if (expected.at("formats").empty())
    CHECK(weights::renamed_shapes(names, found.tensors, "file") == shapes);
}

TEST_SUITE("parity/format_names") {
  TEST_CASE("every file is told by its names, and all of them are found in the modules'") {
    int checked = 0;
    for (const auto& c : test::format_cases()) {
      const auto path = c.at("path").get<std::string>();
      if (path.ends_with(".gguf")) continue;
      CAPTURE(path);
      const io::test::TempDir temp;
      const auto shapes = stored_shapes(test::unpack_format(path, temp.path()));
      if (c.contains("refused")) {
        const auto refusal = io::test::error_of([&] { flux2::find_parts(shapes, path); });
        CHECK(refusal.kind() == ErrorKind::unsupported);
        CHECK(std::string(refusal.what()) == c.at("refused").get<std::string>() + ": " + path);
        continue;
      }
      const auto found = flux2::find_parts(shapes, path);
      REQUIRE(found.size() == c.at("parts").size());
      for (std::size_t i = 0; i < found.size(); ++i) {
        CHECK(weights::convention_name(found[i].convention) ==
              c.at("parts")[i].at("convention").get<std::string>());
        check_part(found[i], c.at("parts")[i], temp.path());
      }
      ++checked;
    }
    CHECK(checked > 30);
  }

  TEST_CASE("shapes tell the sizes that diffusers' config.json has") {
    const io::test::TempDir temp;
    const auto folder = test::unpack_format("diffusers", temp.path());
    const auto shapes = [&](const char* part) { return stored_shapes(folder / part); };
    const auto json = [&](const char* part) {
      return io::parse_json_file(folder / part / "config.json");
    };

    const auto transformer = flux2::transformer_config_from(shapes("transformer"), "file");
    const auto t = json("transformer");
    const auto t_read = flux2::TransformerConfig::from_json({t, "config.json"});
    CHECK(transformer.in_channels == t_read.in_channels);
    CHECK(transformer.num_layers == t_read.num_layers);
    CHECK(transformer.num_single_layers == t_read.num_single_layers);
    CHECK(transformer.attention_head_dim == t_read.attention_head_dim);
    CHECK(transformer.num_attention_heads == t_read.num_attention_heads);
    CHECK(transformer.joint_attention_dim == t_read.joint_attention_dim);
    CHECK(transformer.timestep_guidance_channels == t_read.timestep_guidance_channels);
    CHECK(transformer.mlp_ratio == t_read.mlp_ratio);
    CHECK(transformer.axes_dims_rope == t_read.axes_dims_rope);

    const auto vae = flux2::vae_config_from(shapes("vae"), "file");
    const auto v = json("vae");
    const auto v_read = flux2::VaeConfig::from_json({v, "config.json"});
    CHECK(vae.latent_channels == v_read.latent_channels);
    CHECK(vae.block_out_channels == v_read.block_out_channels);
    CHECK(vae.decoder_block_out_channels == v_read.decoder_block_out_channels);
    CHECK(vae.layers_per_block == v_read.layers_per_block);
    CHECK(vae.norm_num_groups == v_read.norm_num_groups);

    const auto text = qwen3::config_from(shapes("text_encoder"), "file");
    const auto q = json("text_encoder");
    const auto q_read = qwen3::TextEncoderConfig::from_json({q, "config.json"});
    CHECK(text.vocab_size == q_read.vocab_size);
    CHECK(text.hidden_size == q_read.hidden_size);
    CHECK(text.intermediate_size == q_read.intermediate_size);
    CHECK(text.num_hidden_layers == q_read.num_hidden_layers);
    CHECK(text.num_attention_heads == q_read.num_attention_heads);
    CHECK(text.num_key_value_heads == q_read.num_key_value_heads);
    CHECK(text.head_dim == q_read.head_dim);
  }
}

}  // namespace
}  // namespace klein
