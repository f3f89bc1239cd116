#include "klein/models/flux2/difference.h"

#include <doctest/doctest.h>
#include <fmt/format.h>

#include "klein/models/flux2/checkpoint.h"
#include "klein/models/flux2/streaming.h"
#include "unit/io/support.h"

namespace klein::flux2 {
namespace {

namespace fs = std::filesystem;
using io::test::error_of;
using io::test::TempDir;

/// A folder with the links base/ -> a tiny transformer, text/ -> its text encoder, and a LoRA in
/// lora/ that changes one layer.
struct Folders {
  TempDir folder;
  fs::path lora = folder / "lora";

  Folders() {
    const auto model = fs::path(KLEIN_TEST_FIXTURES) / "models/tiny-base";
    fs::create_directory_symlink(model / "transformer", folder / "base");
    fs::create_directory_symlink(model / "text_encoder", folder / "text");
    fs::create_directory(lora);
    write("transformer.proj_out", 16, 128);
    names("../base");
  }

  void write(const std::string& layer, int in, int out) const {
    mx::save_safetensors((lora / "adapter_model.safetensors").string(),
                         {{layer + ".lora_A.weight", mx::ones({1, in})},
                          {layer + ".lora_B.weight", mx::ones({out, 1})}});
  }

  /// Writes adapter_config.json; `base` as JSON spells it.
  void names(const std::string& base) const {
    folder.file("lora/adapter_config.json",
                fmt::format(R"({{"peft_type": "LORA", "base_model_name_or_path": "{}"}})", base));
  }

  std::string refusal(PartKind kind = PartKind::transformer) const {
    return io::test::message_of(folder, [&] { open_part(lora, kind); });
  }
};

TEST_SUITE("models/difference") {
  TEST_CASE("a LoRA stands for the weights that it is added to") {
    const Folders f;
    const auto base = open_part(f.folder / "base", PartKind::transformer);
    const auto part = open_part(f.lora, PartKind::transformer);
    CHECK(part.path == f.lora);
    CHECK(part.shapes == base.shapes);
    CHECK(part.config == fs::canonical(f.folder / "base") / "config.json");
    REQUIRE(part.difference.has_value());
    CHECK(part.difference->base == fs::canonical(f.folder / "base"));
    CHECK(changed_weights({}, part) == std::set<std::string>{"proj_out.weight"});
    CHECK(part.child("transformer_blocks.0.").difference.has_value());
    CHECK_FALSE(base.difference.has_value());

    f.folder.file("lora/config.json", "{}");
    CHECK(open_part(f.lora, PartKind::transformer).config == f.lora / "config.json");
  }

  TEST_CASE("blocks that are streamed get their part of it") {
    const Folders f;
    f.write("transformer.single_transformer_blocks.1.attn.to_out", 64, 16);
    const auto model = fs::path(KLEIN_TEST_FIXTURES) / "models/tiny-base";
    const auto c = Checkpoint::read({.model = model, .transformer = f.lora});
    const auto input = [&](const Transformer& whole) {
      return TransformerInput{.latents = mx::ones({1, 2, 128}),
                              .prompt_embeds = mx::ones({1, 3, 96}),
                              .timestep = mx::array({0.75f}),
                              .rope = whole.rope(3, {{0, 0, 0, 0}, {0, 0, 1, 0}})};
    };
    const LoadOptions options{.dtype = mx::float32};
    const auto velocity = [](const Transformer& whole, const TransformerInput& i) {
      return whole(i.latents, i.prompt_embeds, i.timestep, i.rope);
    };
    const auto whole = c.load_transformer(options);
    const auto want = velocity(whole, input(whole));
    for (const int resident : {0, 3})
      CHECK(mx::array_equal(StreamedTransformer(c, options, resident)(std::vector{input(whole)})[0],
                            want)
                .item<bool>());
    const auto plain = Checkpoint::read({.model = model}).load_transformer(options);
    CHECK_FALSE(mx::array_equal(velocity(plain, input(plain)), want).item<bool>());
  }

  TEST_CASE("a folder with weights of its own stands for itself") {
    const Folders f;
    CHECK(holds_difference(f.lora));
    fs::copy_file(f.folder / "base/diffusion_pytorch_model.safetensors",
                  f.lora / "diffusion_pytorch_model.safetensors");
    CHECK_FALSE(holds_difference(f.lora));
    CHECK_FALSE(open_part(f.lora, PartKind::transformer).difference.has_value());
    CHECK_FALSE(holds_difference(f.folder / "base"));
    CHECK_FALSE(holds_difference(f.folder / "none"));
  }

  TEST_CASE("a base that is no relative path of a folder of weights is refused") {
    const Folders f;
    for (const char* name : {"black-forest-labs/FLUX.2-klein-4B", "/etc", "base", "", "~/base",
                             "..", "../base\\u0000", "\\u001b[31m"}) {
      CAPTURE(name);
      f.names(name);
      CHECK(f.refusal().starts_with(
          "expected base_model_name_or_path to be a path that begins with ./ or ../, got \""));
      CHECK(error_of([&] { open_part(f.lora, PartKind::transformer); }).kind() ==
            ErrorKind::unsupported);
    }
    CHECK(f.refusal().ends_with("got \"\\x1b[31m\": DIR/lora/adapter_config.json"));
    f.names("../none");
    CHECK(f.refusal() ==
          "expected a folder of weights where base_model_name_or_path leads, found none at "
          "\"../none\": DIR/lora/adapter_config.json");
    f.names("../" + std::string(100'000, 'a'));
    CHECK(f.refusal().starts_with("expected a folder of weights where base_model_name"));
    for (const char* name : {"./", "../lora"}) {
      f.names(name);
      CHECK(f.refusal() ==
            fmt::format("expected weights where base_model_name_or_path leads, got another LoRA "
                        "at \"{}\": DIR/lora/adapter_config.json",
                        name));
    }
    f.names("../text");
    CHECK(f.refusal().starts_with(
        "expected the weights of a transformer, got those of a text encoder: "));
    f.folder.file("lora/adapter_config.json", "{}");
    CHECK(f.refusal() == "DIR/lora/adapter_config.json: `base_model_name_or_path` is missing");
    f.folder.file("lora/adapter_config.json", "[");
    CHECK(error_of([&] { open_part(f.lora, PartKind::transformer); }).kind() == ErrorKind::format);
  }

  TEST_CASE("every layer of the LoRA has to have its place") {
    const Folders f;
    f.write("transformer.transformer_blocks.7.attn.to_q", 16, 16);
    CHECK(f.refusal().starts_with("expected a LoRA for FLUX.2 [klein], got one that changes none"));
    f.write("transformer.proj_out", 16, 64);
    CHECK(f.refusal() ==
          "expected a LoRA of the model's size, [128, 16] for transformer.proj_out, got [64, 16]: "
          "DIR/lora/adapter_model.safetensors");
    mx::save_safetensors((f.lora / "adapter_model.safetensors").string(),
                         {{"transformer.proj_out.lora_A.weight", mx::ones({1, 16})},
                          {"transformer.proj_out.lora_B.weight", mx::ones({128, 1})},
                          {"transformer.x.lora_A.weight", mx::ones({1, 16})},
                          {"transformer.x.lora_B.weight", mx::ones({16, 1})}});
    CHECK(f.refusal() ==
          "expected layers of the transformer alone, but the model has no place for 1 of 2 layers "
          "of adapter_model.safetensors: transformer.x: DIR/lora");
  }

  TEST_CASE("an autoencoder has no layers for a LoRA") {
    const Folders f;
    CHECK(f.refusal(PartKind::vae).starts_with("expected weights of FLUX.2 [klein], got a LoRA"));
  }
}

}  // namespace
}  // namespace klein::flux2
