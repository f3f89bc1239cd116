#include "klein/models/flux2/latents.h"

namespace klein::flux2 {

mx::array pack_latents(const mx::array& latents) {
  const int batch = latents.shape(0), height = latents.shape(1) / 2, width = latents.shape(2) / 2;
  const int channels = latents.shape(3);
  const auto squares = mx::reshape(latents, {batch, height, 2, width, 2, channels});
  const auto channels_first = mx::transpose(squares, {0, 1, 3, 5, 2, 4});  // B h w C row column
  return mx::reshape(channels_first, {batch, height * width, channels * 4});
}

mx::array unpack_latents(const mx::array& packed, int height, int width) {
  const int batch = packed.shape(0), channels = packed.shape(2) / 4;
  const auto squares = mx::reshape(packed, {batch, height, width, channels, 2, 2});
  const auto pixels = mx::transpose(squares, {0, 1, 4, 2, 5, 3});  // B h row w column C
  return mx::reshape(pixels, {batch, height * 2, width * 2, channels});
}

mx::array tokens_from_grid(const mx::array& grid) {
  const auto tokens_last = mx::flatten(grid, 2, 3);  // [B, C, L]
  return mx::contiguous(mx::transpose(tokens_last, {0, 2, 1}));
}

std::vector<nn::PositionId> image_position_ids(int height, int width, int t) {
  std::vector<nn::PositionId> ids;
  for (int row = 0; row < height; ++row)
    for (int column = 0; column < width; ++column) ids.push_back({t, row, column, 0});
  return ids;
}

}  // namespace klein::flux2
