#include "klein/cli/picture_options.h"

#include <doctest/doctest.h>

#include "klein/io/file.h"
#include "klein/io/image.h"
#include "unit/cli/support.h"

namespace klein::test {
namespace {

using Strings = std::vector<std::string>;

/// Writes a picture of one colour, which is also told by its red.
void draw(const std::string& path, int width, int height, std::uint8_t red) {
  io::Image image{width, height, {}};
  for (int i = 0; i < width * height; ++i) image.rgb.insert(image.rgb.end(), {red, 20, 30});
  io::write_atomically(path, io::encode(image, io::format_for(path)), io::Overwrite::refuse);
}

int red_of(const io::Picture& picture) {
  return picture.pixels.at(0);
}

std::string message_of(const Strings& arguments) {
  FakeProgram program;
  const auto error = program.error(arguments);
  REQUIRE(error);
  CHECK(program.loaded.empty());
  return error->what();
}

TEST_SUITE("cli/picture_options") {
  TEST_CASE("an edit takes pictures in their order, and the prompt behind them") {
    const WorkingFolder folder;
    draw("a.png", 80, 64, 1);
    draw("b.webp", 64, 64, 200);
    for (const Strings& arguments :
         {Strings{"edit", "two", "--image-paths", "a.png", "b.webp", "--kv-cache", "on"},
          Strings{"edit", "--kv-cache", "on", "--image-paths", "a.png", "b.webp", "two"}}) {
      FakeProgram program;
      program(arguments);
      const auto& request = program.requests.at(0);
      CHECK(request.prompt == "two");
      REQUIRE(request.references.size() == 2);
      CHECK(red_of(request.references[0]) == 1);
      CHECK(request.references[1].width == 64);
      CHECK(request.kv_cache == KvCaching::on);
    }
    // The same file twice is two references.
    FakeProgram twice;
    twice({"edit", "x", "--image-paths", "a.png", "a.png", "--width", "1.5x"});
    CHECK(twice.requests.at(0).references.size() == 2);
    CHECK(twice.requests.at(0).width == 112);
    CHECK_FALSE(twice.requests.at(0).height);
  }

  TEST_CASE("a picture to begin from comes with a strength, in mflux's spelling too") {
    const WorkingFolder folder;
    draw("a.png", 80, 64, 1);
    for (const auto& [arguments, strength] :
         {std::pair{Strings{"generate", "x", "--image", "a.png"}, 0.4},
          std::pair{Strings{"generate", "--image", "a.png", "0.75", "x"}, 0.75},
          std::pair{Strings{"generate", "--image", "a.png", "x"}, 0.4},
          std::pair{Strings{"generate", "x", "--image-path", "a.png"}, 0.4},
          std::pair{Strings{"generate", "x", "--image-path", "a.png", "--image-strength", "0"},
                    0.0}}) {
      FakeProgram program;
      program(arguments);
      const auto& request = program.requests.at(0);
      CHECK(request.prompt == "x");
      REQUIRE(request.init_image);
      CHECK(request.init_image->strength == strength);
      CHECK(request.init_image->picture.width == 80);
    }
  }

  TEST_CASE("inpainting takes everything that its flags say") {
    const WorkingFolder folder;
    draw("a.png", 80, 64, 1);
    draw("m.png", 80, 64, 2);
    draw("r.png", 64, 64, 3);
    FakeProgram program;
    program({"inpaint", "x", "--image", "a.png", "--mask", "m.png", "--strength", "0.5",
             "--reference", "r.png", "--padding-mask-crop", "8", "--preserve", "exact",
             "--soft-mask"});
    REQUIRE(program.requests.at(0).inpaint);
    const auto& task = *program.requests[0].inpaint;
    CHECK(red_of(task.picture) == 1);
    CHECK(red_of(*task.mask) == 2);
    CHECK(red_of(*task.reference) == 3);
    CHECK(task.strength == 0.5);
    CHECK(task.canvas.padding_mask_crop == 8);
    CHECK(task.canvas.soft);
    CHECK(task.preserve == Preserve::exact);
    CHECK_FALSE(task.expand);

    FakeProgram outpainting;
    outpainting({"inpaint", "x", "--image", "a.png", "--expand", "16,0,32,8"});
    const auto& wider = *outpainting.requests.at(0).inpaint;
    CHECK_FALSE(wider.mask);
    CHECK_FALSE(wider.preserve);
    CHECK(wider.strength == 0.8);
    REQUIRE(wider.expand);
    CHECK(wider.expand->left == 16);
    CHECK(wider.expand->right == 32);
    CHECK(wider.expand->bottom == 8);
  }

  TEST_CASE("pictures that do not go together are named before a model is loaded") {
    const WorkingFolder folder;
    draw("a.png", 80, 64, 1);
    CHECK(message_of({"edit", "x"}) == "expected --image-paths, got none");
    CHECK(message_of({"edit", "x", "--image-paths", "none.png"}) ==
          "expected a file, found none: none.png");
    CHECK(message_of({"inpaint", "x"}) == "expected --image, got none");
    CHECK(message_of({"inpaint", "x", "--image", "a.png", "--expand", "1,2"}) ==
          "expected --expand to be left,top,right,bottom in pixels, got \"1,2\"");
    CHECK(message_of({"inpaint", "x", "--image", "a.png", "--strength", "1.5"}) ==
          "expected a strength above 0 and at most 1, got 1.5");
    CHECK(message_of({"generate", "x", "--image", "a.png", "-0.1"}) ==
          "expected a strength of 0 to 1, got -0.1");
    CHECK(message_of({"generate", "x", "--image", "a.png", "much", "more"}) ==
          "expected one picture and a strength behind --image, got 3 words");
    CHECK(message_of({"generate", "x", "--image", "a.png", "--image-strength", "0.5"}) ==
          "expected --image alone, got --image-path or --image-strength beside it");
    CHECK(message_of({"generate", "x", "--image-strength", "0.5"}) ==
          "expected --image-path beside --image-strength, got none");
    CHECK(message_of({"edit", "x", "--image-paths", "a.png", "--kv-cache", "maybe"}) ==
          "expected --kv-cache to be auto or on or off, got \"maybe\"");
    CHECK(message_of({"edit", "x", "--image-paths", "a.png", "--width", "0.001x"}) ==
          "expected a scale that gives at least 16 pixels and at most 1048576, got 0 by 0.001x");
  }

  TEST_CASE("every step leaves a picture, and a seed a sheet of them") {
    const WorkingFolder folder;
    FakeProgram program;
    program({"generate", "x", "--seed", "5", "6", "--steps", "2", "--stepwise-image-output-dir",
             "steps", "--stepwise-decode", "latents"});
    CHECK(program.requests.at(0).preview_kind == PreviewKind::latents);
    CHECK(folder.files() == Strings{"image_seed_5.png", "image_seed_6.png",
                                    "steps/seed_5_composite.png", "steps/seed_5_step1of2.png",
                                    "steps/seed_5_step2of2.png", "steps/seed_6_composite.png",
                                    "steps/seed_6_step1of2.png", "steps/seed_6_step2of2.png"});
    const auto sheet = io::load_image("steps/seed_6_composite.png");
    CHECK(sheet.width == 4);
    CHECK(sheet.height == 1);
    CHECK(sheet.rgb == std::vector<std::uint8_t>{1, 2, 3, 4, 5, 6, 1, 2, 3, 4, 5, 6});

    FakeProgram batch;
    batch.pictures = 2;
    batch({"generate", "x", "--seed", "7", "--steps", "1", "--stepwise-image-output-dir", "b"});
    CHECK(batch.requests.at(0).preview_kind == PreviewKind::decoded);
    for (const char* name : {"b/seed_7_step1of1_1.png", "b/seed_7_composite_2.png"})
      CHECK(std::filesystem::exists(name));
  }
}

}  // namespace
}  // namespace klein::test
