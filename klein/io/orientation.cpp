#include "klein/io/orientation.h"

#include <algorithm>
#include <cstring>
#include <memory>
#include <vector>

#include <libexif/exif-data.h>

namespace klein::io {

namespace {

constexpr int kUpright = 1;
constexpr unsigned char kPrefix[] = {'E', 'x', 'i', 'f', 0, 0};

struct Release {
  void operator()(ExifData* data) const { exif_data_unref(data); }
};

/// libexif counts in 32 bits and wants the prefix that a JPEG has; an orientation stands early.
std::vector<unsigned char> prefixed(std::span<const std::byte> exif) {
  constexpr std::size_t kMost = std::size_t{1} << 20;
  const auto* start = reinterpret_cast<const unsigned char*>(exif.data());
  const std::size_t size = std::min(exif.size(), kMost);
  std::vector<unsigned char> bytes;
  if (size < sizeof kPrefix || std::memcmp(start, kPrefix, sizeof kPrefix) != 0)
    bytes.assign(std::begin(kPrefix), std::end(kPrefix));
  bytes.insert(bytes.end(), start, start + size);
  return bytes;
}

}  // namespace

int orientation_in(std::span<const std::byte> exif) {
  if (exif.empty()) return kUpright;
  const std::unique_ptr<ExifData, Release> data(exif_data_new());
  if (!data) return kUpright;
  // Tags as they stand in the file: by default libexif would mend them.
  exif_data_unset_option(data.get(), EXIF_DATA_OPTION_FOLLOW_SPECIFICATION);
  const auto bytes = prefixed(exif);
  exif_data_load_data(data.get(), bytes.data(), static_cast<unsigned int>(bytes.size()));
  const ExifEntry* entry = exif_content_get_entry(data->ifd[EXIF_IFD_0], EXIF_TAG_ORIENTATION);
  if (entry == nullptr || entry->data == nullptr || entry->components != 1) return kUpright;
  const ExifByteOrder order = exif_data_get_byte_order(data.get());
  std::uint32_t value = kUpright;
  if (entry->format == EXIF_FORMAT_SHORT && entry->size >= 2)
    value = exif_get_short(entry->data, order);
  if (entry->format == EXIF_FORMAT_LONG && entry->size >= 4)
    value = exif_get_long(entry->data, order);
  return value >= 1 && value <= 8 ? static_cast<int>(value) : kUpright;
}

Picture turn_upright(Picture picture, int orientation) {
  if (orientation <= kUpright || orientation > 8) return picture;
  const int width = picture.width, height = picture.height;
  const bool swaps = orientation >= 5;
  const bool from_right = orientation == 2 || orientation == 3 || orientation >= 7;
  const bool from_bottom =
      orientation == 3 || orientation == 4 || orientation == 6 || orientation == 7;
  Picture out{swaps ? height : width, swaps ? width : height, picture.mode, picture.indexed, {}};
  out.pixels.resize(picture.pixels.size());
  const auto size = static_cast<std::size_t>(channels(picture.mode));
  auto* target = out.pixels.data();
  for (int y = 0; y < out.height; ++y) {
    for (int x = 0; x < out.width; ++x, target += size) {
      const int column = swaps ? y : x, row = swaps ? x : y;
      const int from_x = from_right ? width - 1 - column : column;
      const int from_y = from_bottom ? height - 1 - row : row;
      const auto at = static_cast<std::size_t>(from_y) * static_cast<std::size_t>(width) +
                      static_cast<std::size_t>(from_x);
      std::memcpy(target, picture.pixels.data() + at * size, size);
    }
  }
  return out;
}

}  // namespace klein::io
