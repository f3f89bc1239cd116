#include "klein/cli/stepwise_files.h"

#include <algorithm>
#include <cmath>

#include <fmt/format.h>

#include "klein/core/error.h"
#include "klein/io/file.h"
#include "klein/io/resize.h"

namespace klein::cli {
namespace {

namespace fs = std::filesystem;

constexpr int kFrameSide = 512;   // at most; the sheet is for looking at
constexpr int kSheetSide = 8192;  // at most
constexpr int kMostColumns = 8;

io::Image shrunk(const io::Image& image, int side) {
  const int longest = std::max(image.width, image.height);
  if (longest <= side) return image;
  const auto scaled = [&](int length) { return std::max(1, length * side / longest); };
  return io::resize(image, scaled(image.width), scaled(image.height));
}

/// Pictures of one size in rows, on white.
io::Image sheet_of(std::vector<io::Image> frames) {
  const int count = static_cast<int>(frames.size());
  const int columns = std::min(count, std::max(kMostColumns, static_cast<int>(std::sqrt(count))));
  const int rows = (count + columns - 1) / columns;
  for (auto& frame : frames) frame = shrunk(frame, kSheetSide / std::max(columns, rows));
  const int width = frames.front().width, height = frames.front().height;
  const auto frame_bytes = std::size_t{3} * static_cast<std::size_t>(width);
  const auto row_bytes = frame_bytes * static_cast<std::size_t>(columns);
  io::Image sheet{columns * width, rows * height, {}};
  sheet.rgb.assign(row_bytes * static_cast<std::size_t>(sheet.height), 255);
  for (std::size_t i = 0; i < frames.size(); ++i) {
    const auto row = i / static_cast<std::size_t>(columns);
    const auto column = i % static_cast<std::size_t>(columns);
    for (std::size_t y = 0; y < static_cast<std::size_t>(height); ++y) {
      const auto* from = frames[i].rgb.data() + y * frame_bytes;
      const auto top = row * static_cast<std::size_t>(height) + y;
      std::copy_n(from, frame_bytes, sheet.rgb.data() + top * row_bytes + column * frame_bytes);
    }
  }
  return sheet;
}

}  // namespace

StepwiseFiles::StepwiseFiles(fs::path folder, bool overwrite)
    : folder_(std::move(folder)), overwrite_(overwrite) {
  std::error_code error;
  fs::create_directories(folder_, error);
  if (error || !fs::is_directory(folder_, error))
    throw Error(ErrorKind::io,
                fmt::format("cannot make the folder ({}): {}",
                            error ? error.message() : "a file has its name", folder_.string()));
}

void StepwiseFiles::start(const std::vector<std::uint64_t>& seeds) {
  seeds_ = seeds;
  frames_.clear();
}

void StepwiseFiles::add(const Preview& preview) {
  frames_.resize(std::max(frames_.size(), preview.images.size()));
  for (std::size_t i = 0; i < preview.images.size(); ++i) {
    write(preview.images[i], fmt::format("step{}of{}", preview.step, preview.steps), i);
    frames_[i].push_back(shrunk(preview.images[i], kFrameSide));
  }
}

void StepwiseFiles::finish() {
  for (std::size_t i = 0; i < frames_.size(); ++i) write(sheet_of(frames_[i]), "composite", i);
  frames_.clear();
}

void StepwiseFiles::write(const io::Image& image, const std::string& what,
                          std::size_t index) const {
  const bool has_own_seed = seeds_.size() == frames_.size();
  const auto number = has_own_seed ? std::string() : fmt::format("_{}", index + 1);
  const auto seed = has_own_seed ? seeds_[index] : seeds_.front();
  io::write_atomically(folder_ / fmt::format("seed_{}_{}{}.png", seed, what, number),
                       io::encode(image, io::ImageFormat::png),
                       overwrite_ ? io::Overwrite::replace : io::Overwrite::number);
}

}  // namespace klein::cli
