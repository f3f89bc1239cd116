#include "support/pictures.h"

#include <cstdlib>
#include <filesystem>
#include <map>

#include <doctest/doctest.h>

#include "klein/io/picture.h"
#include "klein/io/resize.h"
#include "klein/pipeline/canvas.h"
#include "klein/pipeline/reference_image.h"
#include "support/json.h"
#include "support/tensors.h"

namespace klein {
namespace {

using test::sha256;

io::Filter filter_named(const std::string& name) {
  static const std::map<std::string, io::Filter> kFilters = {{"nearest", io::Filter::nearest},
                                                             {"bilinear", io::Filter::bilinear},
                                                             {"bicubic", io::Filter::bicubic},
                                                             {"lanczos", io::Filter::lanczos}};
  return kFilters.at(name);
}

io::Picture picture_for(const nlohmann::json& c) {
  return test::pattern(test::mode_named(c.at("mode").get<std::string>()), c.at("from")[0],
                       c.at("from")[1]);
}

std::vector<nlohmann::json> cases(const char* name) {
  return test::fixture_json("pictures/pixels").at(name);
}

std::vector<std::uint8_t> bytes_of(mx::array a) {
  a = mx::contiguous(a);
  mx::eval(a);
  return {a.data<std::uint8_t>(), a.data<std::uint8_t>() + a.size()};
}

/// The greatest difference between two pictures' values.
int worst(const std::vector<std::uint8_t>& a, const std::vector<std::uint8_t>& b) {
  REQUIRE(a.size() == b.size());
  int result = 0;
  for (std::size_t i = 0; i < a.size(); ++i) result = std::max(result, std::abs(a[i] - b[i]));
  return result;
}

TEST_SUITE("parity/pictures") {
  TEST_CASE("picture files of every kind are what Pillow makes of them, upright") {
    const auto expected = test::fixture("pictures/files");
    int count = 0;
    for (const auto& entry :
         std::filesystem::directory_iterator(KLEIN_TEST_FIXTURES "/pictures/files")) {
      const std::string name = entry.path().filename();
      CAPTURE(name);
      ++count;
      const io::Picture picture = io::load_picture(entry.path());
      // Versions of libjpeg may round differently, and a scaled picture adds up a few of its
      // values.
      const int tolerance = name.ends_with(".jpg") ? 2 : 0;
      const auto& rgb = expected[name + ".rgb"];
      CHECK(picture.width == rgb.shape(1));
      CHECK(picture.height == rgb.shape(0));
      CHECK(worst(to_rgb(picture).rgb, bytes_of(rgb)) <= tolerance);
      CHECK(worst(to_grey(picture).grey, bytes_of(expected[name + ".grey"])) <= tolerance);
      CHECK(worst(to_rgb(resize(picture, 9, 7)).rgb, bytes_of(expected[name + ".scaled"])) <=
            tolerance);
      const auto alpha = alpha_of(picture);
      REQUIRE(alpha.has_value() == expected.has(name + ".alpha"));
      if (alpha) CHECK(alpha->grey == bytes_of(expected[name + ".alpha"]));
    }
    CHECK(count == 37);
  }

  TEST_CASE("pictures are scaled as Pillow scales them, to the bit") {
    for (const auto& c : cases("resize")) {
      CAPTURE(c.dump());
      std::optional<io::Region> part;
      if (c.contains("box")) part = io::Region{c["box"][0], c["box"][1], c["box"][2], c["box"][3]};
      const auto scaled =
          resize(picture_for(c), c["to"][0], c["to"][1], filter_named(c["filter"]), part);
      CHECK(sha256(scaled.pixels) == c["sha256"]);
    }
  }

  TEST_CASE("references are prepared as Flux2KleinPipeline prepares them, to the bit") {
    for (const auto& c : cases("reference")) {
      CAPTURE(c.dump());
      const io::Image image = prepare_reference(picture_for(c), "a.png");
      CHECK(image.width == c["to"][0]);
      CHECK(image.height == c["to"][1]);
      CHECK(sha256(image.rgb) == c["sha256"]);
    }
  }

  TEST_CASE("a picture covers a size as Pillow's ImageOps.fit, to the bit") {
    for (const auto& c : cases("cover")) {
      CAPTURE(c.dump());
      CHECK(sha256(cover(picture_for(c), c["to"][0], c["to"][1]).rgb) == c["sha256"]);
    }
  }

  TEST_CASE("picture and mask are what Flux2KleinInpaintPipeline gives to the model, to the bit") {
    for (const auto& c : cases("inpaint")) {
      CAPTURE(c.dump());
      io::GreyImage mask = test::filled_mask(c["from"][0], c["from"][1], 0);
      for (const auto& box : c["boxes"]) test::paint(mask, box[0], box[1], box[2], box[3], box[4]);
      CanvasOptions options{.padding_mask_crop = {}, .soft = c["soft"], .grow = 0};
      if (!c["padding"].is_null()) options.padding_mask_crop = c["padding"].get<int>();
      const Canvas canvas = make_canvas({picture_for(c), mask}, options);
      CHECK(canvas.picture.width == c["to"][0]);
      CHECK(canvas.picture.height == c["to"][1]);
      REQUIRE(canvas.crop.has_value() == !c["crop"].is_null());
      if (canvas.crop) {
        const std::vector<int> box{canvas.crop->left, canvas.crop->top, canvas.crop->right,
                                   canvas.crop->bottom};
        CHECK(box == c["crop"].get<std::vector<int>>());
      }
      CHECK(sha256(canvas.picture.rgb) == c["picture"]);
      CHECK(sha256(canvas.mask.grey) == c["mask"]);
    }
  }
}

}  // namespace
}  // namespace klein
