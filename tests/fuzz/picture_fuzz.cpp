#include <cstddef>
#include <span>

#include "fuzz/support.h"
#include "fuzz/targets.h"
#include "klein/io/orientation.h"
#include "klein/io/picture.h"
#include "klein/io/resize.h"

namespace klein::fuzz {
namespace {

constexpr std::size_t kMostValues = std::size_t{1}
                                    << 20;  // to convert and scale: beyond it is slow

}  // namespace

void picture(std::string_view input) {
  const auto bytes = std::as_bytes(std::span(input));
  const int orientation = io::orientation_in(bytes);
  expect(orientation >= 1 && orientation <= 8, "an orientation is one of eight");

  const io::Picture picture = io::decode_picture(bytes, "a picture");
  expect_whole(picture);
  expect(picture.width <= io::kMaxImageSide && picture.height <= io::kMaxImageSide,
         "a picture keeps to its limits");
  if (picture.pixels.size() > kMostValues) return;
  expect_whole(to_rgb(picture));
  expect_whole(to_grey(picture));
  expect(alpha_of(picture).has_value() == has_alpha(picture.mode), "a mode says what it holds");
  expect_whole(resize(picture, 5, 3));
  expect(turn_upright(turn_upright(picture, 6), 8).pixels == picture.pixels, "turns are undone");
}

}  // namespace klein::fuzz
