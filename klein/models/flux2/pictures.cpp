#include "klein/models/flux2/pictures.h"

#include "klein/models/flux2/latents.h"
#include "klein/ops/elementwise.h"
#include "klein/ops/host_memory.h"
#include "klein/sampling/flow_match.h"

namespace klein::flux2 {
namespace {

constexpr int kReferenceSpacing = 10;  // of positions t

mx::array pixels_of(const io::Image& image, mx::Dtype dtype) {
  const auto bytes = ops::array_of(image.rgb, {1, image.height, image.width, 3});
  const auto unit = mx::astype(bytes, mx::float32) / mx::array(255.0f);
  return mx::astype(mx::array(2.0f) * unit - mx::array(1.0f), dtype);
}

}  // namespace

mx::array picture_tokens(const Vae& vae, const io::Image& image, mx::Dtype dtype,
                         const VaePlan& plan) {
  return vae.normalize(pack_latents(encode(vae, pixels_of(image, dtype), plan)));
}

mx::array mask_tokens(const io::GreyImage& mask, int side, mx::Dtype dtype) {
  const int rows = mask.height / side, columns = mask.width / side;
  const auto bytes = ops::array_of(mask.grey, {rows, side, columns, side});
  const int first = side / 2 - 1;
  const auto middle = mx::slice(bytes, {0, first, 0, first}, {rows, first + 2, columns, first + 2});
  const auto mean = mx::mean(mx::astype(middle, mx::float32), std::vector<int>{1, 3});
  return mx::astype(mx::reshape(mean / mx::array(255.0f), {1, rows * columns, 1}), dtype);
}

void append(ReferenceTokens& references, const mx::array& tokens, int rows, int columns,
            int number) {
  references.tokens =
      references.ids.empty() ? tokens : mx::concatenate({references.tokens, tokens}, 1);
  const auto ids = image_position_ids(rows, columns, kReferenceSpacing * (number + 1));
  references.ids.insert(references.ids.end(), ids.begin(), ids.end());
}

mx::array HeldTokens::operator()(const mx::array& latents, float sigma) const {
  const auto held = sigma > 0.0f ? sampling::scale_noise(clean, sigma, noise) : clean;
  return (mx::array(1.0f, mask.dtype()) - mask) * held + mask * latents;
}

io::Image to_image(const mx::array& pixels) {
  return {.width = pixels.shape(2),
          .height = pixels.shape(1),
          .rgb = ops::bytes_of(ops::levels(pixels))};
}

}  // namespace klein::flux2
