#include "klein/engine/list_loras.h"

#include <map>

#include <doctest/doctest.h>

#include "klein/core/error.h"
#include "klein/io/safetensors.h"
#include "unit/io/support.h"

namespace klein {
namespace {

using io::test::error_of;
using io::test::TempDir;
using Shapes = std::map<std::string, std::vector<std::int64_t>>;

/// A file of zeros, whose numbers nobody has to read.
std::filesystem::path write(const std::filesystem::path& path, const Shapes& shapes) {
  std::vector<std::vector<std::byte>> data;
  std::vector<io::TensorView> views;
  for (const auto& [name, shape] : shapes) {
    std::int64_t count = 2;
    for (const auto side : shape) count *= side;
    data.emplace_back(static_cast<std::size_t>(count));
  }
  std::size_t i = 0;
  for (const auto& [name, shape] : shapes)
    views.push_back(
        {.name = name, .dtype = io::Dtype::bfloat16, .shape = shape, .data = data[i++]});
  return io::write_safetensors(path, views, {}, io::Overwrite::refuse);
}

ListedLora only(const TempDir& folder) {
  const auto loras = list_loras({folder.path().string()});
  REQUIRE(loras.size() == 1);
  return loras.front();
}

TEST_SUITE("engine/list_loras") {
  TEST_CASE("a LoRA's header tells its ranks, its layers and the model") {
    const TempDir folder;
    const auto file =
        write(folder / "fox.safetensors",
              {{"transformer.single_transformer_blocks.0.attn.to_out.lora_A.weight", {4, 12288}},
               {"transformer.single_transformer_blocks.0.attn.to_out.lora_B.weight", {3072, 4}},
               {"diffusion_model.double_blocks.4.img_attn.qkv.lora_A.weight", {2, 3072}},
               {"diffusion_model.double_blocks.4.img_attn.qkv.lora_B.weight", {9216, 2}}});
    const auto fox = only(folder);
    CHECK(fox.name == "fox");
    CHECK(fox.file == file);
    CHECK(fox.bytes == std::filesystem::file_size(file));
    CHECK(fox.kind == "LoRA");
    CHECK(fox.ranks == std::set<int>{2, 4});
    CHECK(fox.layers == 2);
    CHECK(fox.models == std::vector<std::string>{"4B"});
    CHECK(fox.fault.empty());
  }

  TEST_CASE("widths tell 4B from 9B, for the text encoder too") {
    const auto models = [](const std::string& layer, std::int64_t in, std::int64_t out) {
      const TempDir folder;
      write(folder / "x.safetensors",
            {{layer + ".lora_down.weight", {1, in}}, {layer + ".lora_up.weight", {out, 1}}});
      CHECK(only(folder).fault.empty());
      return only(folder).models;
    };
    using Names = std::vector<std::string>;
    CHECK(models("lora_unet_double_blocks_0_img_mlp_0", 3072, 18432) == Names{"4B"});
    CHECK(models("lora_unet_double_blocks_7_img_mlp_0", 4096, 24576) == Names{"9B"});
    CHECK(models("text_encoder.model.layers.0.mlp.down_proj", 9728, 2560) == Names{"4B"});
    CHECK(models("text_encoder.model.layers.0.mlp.down_proj", 12288, 4096) == Names{"9B"});
    CHECK(models("transformer.proj_out", 16, 128).empty());  // for a small model
  }

  TEST_CASE("other kinds are named; a LoKr of whole factors has no rank") {
    const TempDir folder;
    write(folder / "x.safetensors",
          {{"diffusion_model.single_blocks.0.linear2.lokr_w1", {4, 4}},
           {"diffusion_model.single_blocks.0.linear2.lokr_w2", {768, 3072}}});
    const auto lokr = only(folder);
    CHECK(lokr.kind == "LoKr");
    CHECK(lokr.ranks.empty());
    CHECK(lokr.models == std::vector<std::string>{"4B"});
  }

  TEST_CASE("broken files are listed with their fault") {
    const TempDir folder;
    folder.file("a.safetensors", "x");
    write(folder / "b.safetensors", {{"img_in.lora_A.weight", {1, 128}}});
    write(folder / "c.safetensors",
          {{"unet.lora_A.weight", {1, 2}}, {"unet.lora_B.weight", {2, 1}}});
    write(folder / "d.safetensors", {{"vae.conv", {2, 2}}});
    const auto loras = list_loras({folder.path().string()});
    REQUIRE(loras.size() == 4);
    CHECK_FALSE(loras[0].fault.empty());
    CHECK(loras[1].fault == "expected a whole LoRA, got img_in without lora_B: " +
                                (folder / "b.safetensors").string());
    CHECK(
        loras[2].fault ==
        "expected a LoRA for FLUX.2 [klein], got one that changes none of its layers, with unet: " +
            (folder / "c.safetensors").string());
    CHECK(loras[3].fault ==
          "expected a LoRA for FLUX.2 [klein], got one that changes none of its layers, with "
          "vae.conv: " +
              (folder / "d.safetensors").string());
  }

  TEST_CASE("folders that are not there are refused, an empty one is fine") {
    const TempDir folder;
    CHECK(list_loras({"/none", folder.path().string()}).empty());
    CHECK(std::string(error_of([] {
                        list_loras({"/none", "/neither"});
                      }).what()) == "expected folders of LoRAs, found none: /none, /neither");
    CHECK(std::string(error_of([] { list_loras({}); }).what()) ==
          "expected folders of LoRAs in LORA_LIBRARY_PATH, found none");
  }
}

}  // namespace
}  // namespace klein
