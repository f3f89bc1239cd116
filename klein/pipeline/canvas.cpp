#include "klein/pipeline/canvas.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <utility>

#include <fmt/format.h>

#include "klein/core/error.h"
#include "klein/io/resize.h"
#include "klein/pipeline/nearest.h"
#include "klein/pipeline/reference_image.h"

namespace klein {

namespace {

constexpr int kWhite = 128;  // diffusers: from 0.5 on, after division by 255

[[noreturn]] void refuse(const std::string& message, const char* hint = "") {
  throw Error(ErrorKind::usage, message, hint);
}

void check(const MaskedPicture& original, const CanvasOptions& options) {
  const auto& [picture, mask] = original;
  expect_whole(picture);
  expect_whole(mask);
  if (mask.width != picture.width || mask.height != picture.height)
    throw Error(ErrorKind::shape,
                fmt::format("expected a mask as large as the picture, {} x {}, got {} x {}",
                            picture.width, picture.height, mask.width, mask.height));
  if (options.padding_mask_crop.value_or(0) < 0)
    refuse(
        fmt::format("expected a mask padding of at least 0, got {}", *options.padding_mask_crop));
  if (options.grow < 0)
    refuse(fmt::format("expected a mask to grow by at least 0, got {}", options.grow));
  const int least = options.soft ? 1 : kWhite;
  if (std::all_of(mask.grey.begin(), mask.grey.end(), [&](int v) { return v < least; }))
    refuse("expected a mask with white parts, got one that is black",
           "White is painted anew, black stays");
}

Size working_size(const io::Picture& picture) {
  auto size = capped_size(picture.width, picture.height);
  size.width -= size.width % kPixelsPerToken;
  size.height -= size.height % kPixelsPerToken;
  if (size.width == 0 || size.height == 0)
    refuse(
        fmt::format("expected a picture of at least {0} x {0} pixels at a size of about {1} in "
                    "all, got {2} x {3}",
                    kPixelsPerToken, kMaxWorkingPixels, picture.width, picture.height));
  return size;
}

/// Makes low to high longer by `more`, inside 0 to `limit` as far as there is room.
void lengthen(int& low, int& high, int more, int limit) {
  low -= more / 2;
  high += more - more / 2;
  if (high >= limit) {
    low -= high - limit;
    high = limit;
  }
  if (low < 0) {
    high = std::min(high - low, limit);
    low = 0;
  }
}

Box crop_region(const io::GreyImage& mask, const Size& size, int padding) {
  Box box = bounds_of(mask);
  box = {box.left - std::min(padding, box.left), box.top - std::min(padding, box.top),
         box.right + std::min(padding, mask.width - box.right),
         box.bottom + std::min(padding, mask.height - box.bottom)};
  const double ratio = static_cast<double>(size.width) / size.height;
  if (static_cast<double>(box.width()) / box.height() > ratio)
    lengthen(box.top, box.bottom, static_cast<int>(box.width() / ratio - box.height()),
             mask.height);
  else
    lengthen(box.left, box.right, static_cast<int>(box.height() * ratio - box.width()), mask.width);
  return box;
}

/// Copies `part` to (left, top) of `target`, as far as there is room.
void paste(io::Picture& target, const io::Picture& part, int left, int top) {
  const auto size = static_cast<std::size_t>(channels(target.mode));
  const int width = std::min(part.width, target.width - left);
  const auto row = [&](auto& picture, int y, int x) {
    return picture.pixels.data() +
           (static_cast<std::size_t>(y) * static_cast<std::size_t>(picture.width) +
            static_cast<std::size_t>(x)) *
               size;
  };
  for (int y = 0; y < std::min(part.height, target.height - top); ++y)
    std::memcpy(row(target, top + y, left), row(part, y, 0),
                size * static_cast<std::size_t>(width));
}

/// Where a picture of that size comes to lie when it is scaled to fit.
Box fitted(int width, int height, const Size& size) {
  const double ratio = static_cast<double>(size.width) / size.height;
  const double own = static_cast<double>(width) / height;
  const auto scaled = [](int side, int to, int from) {
    return std::max(1, static_cast<int>(static_cast<std::int64_t>(side) * to / from));
  };
  const int wide = ratio < own ? size.width : scaled(width, size.height, height);
  const int high = ratio >= own ? size.height : scaled(height, size.width, width);
  const int left = size.width / 2 - wide / 2, top = size.height / 2 - high / 2;
  return {left, top, left + wide, top + high};
}

/// The picture scaled into `content`, its outermost pixels around it.
io::Picture letterboxed(const io::Picture& picture, const Size& size, const Box& content) {
  const int width = content.width(), height = content.height();
  const io::Picture scaled = resize(picture, width, height);
  io::Picture out{size.width, size.height, picture.mode, picture.indexed, {}};
  out.pixels.resize(static_cast<std::size_t>(size.width) * static_cast<std::size_t>(size.height) *
                    static_cast<std::size_t>(channels(picture.mode)));
  paste(out, scaled, content.left, content.top);
  const auto right = static_cast<float>(width), bottom = static_cast<float>(height);
  const auto edge = [&](int wide, int high, const io::Region& line) {
    return resize(scaled, wide, high, io::Filter::bicubic, line);
  };
  if (width == size.width && content.top > 0) {
    paste(out, edge(width, content.top, {0, 0, right, 0}), 0, 0);
    paste(out, edge(width, content.top, {0, bottom, right, bottom}), 0, content.bottom);
  } else if (content.left > 0) {
    paste(out, edge(content.left, height, {0, 0, 0, bottom}), 0, 0);
    paste(out, edge(content.left, height, {right, 0, right, bottom}), content.right, 0);
  }
  return out;
}

void binarise(io::GreyImage& mask) {
  for (auto& value : mask.grey) value = value >= kWhite ? 255 : 0;
}

void grow(io::GreyImage& mask, int pixels) {
  const auto ways = ways_to_nearest(mask.grey, mask.width, mask.height);
  const std::int64_t most = static_cast<std::int64_t>(pixels) * pixels;
  for (std::size_t i = 0; i < ways.size(); ++i)
    if (mask.grey[i] == 0 && ways[i].squared() <= most) mask.grey[i] = 255;
}

io::Picture as_picture(const io::GreyImage& mask) {
  return {mask.width, mask.height, io::PictureMode::grey, false, mask.grey};
}

/// Fills in `picture`, `mask`, `crop` and `content`.
void fill_in(Canvas& canvas, const MaskedPicture& original, const CanvasOptions& options) {
  const auto& [picture, mask] = original;
  const Size size = working_size(picture);
  if (!options.padding_mask_crop) {
    const auto [width, height] = capped_size(picture.width, picture.height);
    canvas.content = {0, 0, size.width, size.height};
    canvas.picture = to_rgb(resize(resize(picture, width, height), size.width, size.height));
    canvas.mask = resize(mask, size.width, size.height);
    return;
  }
  const Box box = crop_region(mask, size, *options.padding_mask_crop);
  canvas.crop = box;
  canvas.content = fitted(box.width(), box.height(), size);
  const auto part = [&](const io::Picture& whole) {
    return letterboxed(crop(whole, box.left, box.top, box.width(), box.height()), size,
                       canvas.content);
  };
  canvas.picture = to_rgb(part(picture));
  canvas.mask = to_grey(part(as_picture(mask)));
}

}  // namespace

Box bounds_of(const io::GreyImage& mask) {
  Box box{mask.width, mask.height, 0, 0};
  const auto* value = mask.grey.data();
  for (int y = 0; y < mask.height; ++y)
    for (int x = 0; x < mask.width; ++x)
      if (*value++ != 0)
        box = {std::min(box.left, x), std::min(box.top, y), std::max(box.right, x + 1),
               std::max(box.bottom, y + 1)};
  return box;
}

io::Image cover(const io::Picture& picture, int width, int height) {
  expect_whole(picture);
  if (width < 1 || height < 1)
    throw Error(ErrorKind::shape,
                fmt::format("expected a size of at least 1 x 1, got {} x {}", width, height));
  const double ratio = static_cast<double>(width) / height;
  const double own = static_cast<double>(picture.width) / picture.height;
  double wide = picture.width, high = picture.height;
  if (own > ratio)
    wide = ratio * picture.height;
  else if (own < ratio)
    high = picture.width / ratio;
  const double left = (picture.width - wide) * 0.5, top = (picture.height - high) * 0.5;
  const io::Region part{static_cast<float>(left), static_cast<float>(top),
                        static_cast<float>(left + wide), static_cast<float>(top + high)};
  return to_rgb(resize(picture, width, height, io::Filter::lanczos, part));
}

Canvas make_canvas(MaskedPicture original, const CanvasOptions& options) {
  check(original, options);
  Canvas canvas;
  fill_in(canvas, original, options);
  if (!options.soft) binarise(canvas.mask);
  if (options.grow > 0) grow(canvas.mask, options.grow);
  const auto& grey = canvas.mask.grey;
  if (std::all_of(grey.begin(), grey.end(), [](int value) { return value == 0; }))
    refuse(fmt::format("expected a mask with white parts that are left at {} x {} pixels, got "
                       "smaller ones",
                       canvas.mask.width, canvas.mask.height),
           "Crop the picture around the mask");
  canvas.original = to_rgb(original.picture);
  canvas.original_mask = std::move(original.mask);
  return canvas;
}

}  // namespace klein
