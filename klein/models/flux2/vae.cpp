#include "klein/models/flux2/vae.h"

#include <cmath>
#include <utility>

#include <fmt/format.h>

#include "klein/core/error.h"
#include "klein/ops/attention.h"
#include "klein/ops/elementwise.h"
#include "klein/tensor/check.h"

namespace klein::flux2 {
namespace {

// Smaller ones may as well be in memory a few at a time.
constexpr std::size_t kLargeMapBytes = 128 << 20;

}  // namespace

ResnetBlock::ResnetBlock(int in, int out, int groups)
    : norm1(groups, in), norm2(groups, out), conv1(in, out, 3), conv2(out, out, 3) {
  if (in != out) conv_shortcut.emplace(in, out, 1);
}

mx::array ResnetBlock::operator()(const mx::array& x) const {
  return second_half(x, first_half(x));
}

mx::array ResnetBlock::first_half(const mx::array& x) const {
  return conv1(norm1(x, /*silu=*/true));
}

mx::array ResnetBlock::second_half(const mx::array& x, const mx::array& h) const {
  return ops::add(conv_shortcut ? (*conv_shortcut)(x) : x, conv2(norm2(h, /*silu=*/true)));
}

void ResnetBlock::visit(nn::Visitor& visitor) {
  visitor.child("norm1", norm1);
  visitor.conv("conv1", conv1);
  visitor.child("norm2", norm2);
  visitor.conv("conv2", conv2);
  if (conv_shortcut) visitor.conv("conv_shortcut", *conv_shortcut);
}

VaeAttention::VaeAttention(int channels, int groups)
    : group_norm(groups, channels),
      to_q(channels, channels, /*with_bias=*/true),
      to_k(channels, channels, /*with_bias=*/true),
      to_v(channels, channels, /*with_bias=*/true),
      to_out(channels, channels, /*with_bias=*/true) {}

mx::array VaeAttention::operator()(const mx::array& x) const {
  const int channels = x.shape(3);
  const auto normed = mx::flatten(group_norm(x), 1, 2);
  const auto one_head = [&](const mx::array& a) { return mx::expand_dims(a, 2); };
  const float scale = 1.0f / std::sqrt(static_cast<float>(channels));
  const auto seen =
      ops::attention(one_head(to_q(normed)), one_head(to_k(normed)), one_head(to_v(normed)), scale);
  return ops::add(mx::reshape(to_out(mx::squeeze(seen, 2)), x.shape()), x);
}

void VaeAttention::visit(nn::Visitor& visitor) {
  visitor.child("group_norm", group_norm);
  visitor.linear("to_q", to_q);
  visitor.linear("to_k", to_k);
  visitor.linear("to_v", to_v);
  visitor.linear("to_out.0", to_out);
}

MidBlock::MidBlock(int channels, int groups, bool with_attention) {
  for (int i = 0; i < 2; ++i) resnets.emplace_back(channels, channels, groups);
  if (with_attention) attentions.emplace_back(channels, groups);
}

mx::array MidBlock::operator()(const mx::array& x) const {
  auto h = resnets[0](x);
  for (const auto& attention : attentions) h = attention(h);
  return resnets[1](h);
}

void MidBlock::visit(nn::Visitor& visitor) {
  visitor.children("resnets", resnets);
  visitor.children("attentions", attentions);
}

DownBlock::DownBlock(int in, int out, const VaeConfig& c, bool halve) {
  for (int i = 0; i < c.layers_per_block; ++i)
    resnets.emplace_back(i == 0 ? in : out, out, c.norm_num_groups);
  if (halve) downsamplers.emplace_back(out);
}

mx::array DownBlock::operator()(const mx::array& x) const {
  auto h = x;
  for (const auto& resnet : resnets) h = resnet(h);
  for (const auto& downsampler : downsamplers) h = downsampler(h);
  return h;
}

void DownBlock::visit(nn::Visitor& visitor) {
  visitor.children("resnets", resnets);
  visitor.children("downsamplers", downsamplers);
}

UpBlock::UpBlock(int in, int out, const VaeConfig& c, bool twice_as_large) {
  for (int i = 0; i < c.layers_per_block + 1; ++i)
    resnets.emplace_back(i == 0 ? in : out, out, c.norm_num_groups);
  if (twice_as_large) upsamplers.emplace_back(out);
}

mx::array UpBlock::operator()(mx::array x, Pace& pace) const {
  for (const auto& resnet : resnets) {
    const auto half = resnet.first_half(x);
    if (half.nbytes() > kLargeMapBytes) pace.start({half});
    pace.start({x = resnet.second_half(x, half)});
  }
  for (const auto& upsampler : upsamplers) x = upsampler(x);
  return x;
}

void UpBlock::visit(nn::Visitor& visitor) {
  visitor.children("resnets", resnets);
  visitor.children("upsamplers", upsamplers);
}

Encoder::Encoder(const VaeConfig& c)
    : conv_in(c.in_channels, c.block_out_channels.front(), 3),
      mid_block(c.block_out_channels.back(), c.norm_num_groups, c.mid_block_add_attention),
      conv_norm_out(c.norm_num_groups, c.block_out_channels.back()),
      conv_out(c.block_out_channels.back(), 2 * c.latent_channels, 3) {
  int in = c.block_out_channels.front();
  for (const int out : c.block_out_channels) {
    const bool last = down_blocks.size() + 1 == c.block_out_channels.size();
    down_blocks.emplace_back(in, out, c, /*halve=*/!last);
    in = out;
  }
}

mx::array Encoder::operator()(const mx::array& x) const {
  auto h = conv_in(x);
  for (const auto& block : down_blocks) h = block(h);
  return conv_out(conv_norm_out(mid_block(h), /*silu=*/true));
}

void Encoder::visit(nn::Visitor& visitor) {
  visitor.conv("conv_in", conv_in);
  visitor.children("down_blocks", down_blocks);
  visitor.child("mid_block", mid_block);
  visitor.child("conv_norm_out", conv_norm_out);
  visitor.conv("conv_out", conv_out);
}

Decoder::Decoder(const VaeConfig& c)
    : conv_in(c.latent_channels, c.decoder_block_out_channels.back(), 3),
      mid_block(c.decoder_block_out_channels.back(), c.norm_num_groups, c.mid_block_add_attention),
      conv_norm_out(c.norm_num_groups, c.decoder_block_out_channels.front()),
      conv_out(c.decoder_block_out_channels.front(), c.out_channels, 3) {
  const auto& widths = c.decoder_block_out_channels;
  int in = widths.back();
  for (auto out = widths.rbegin(); out != widths.rend(); ++out) {
    up_blocks.emplace_back(in, *out, c, /*twice_as_large=*/out + 1 != widths.rend());
    in = *out;
  }
}

mx::array Decoder::operator()(const mx::array& z) const {
  Pace pace(1);  // a picture's results are the largest arrays of all
  auto h = mid_block(conv_in(z));
  for (const auto& block : up_blocks) h = block(std::move(h), pace);
  return conv_out(conv_norm_out(h, /*silu=*/true));
}

void Decoder::visit(nn::Visitor& visitor) {
  visitor.conv("conv_in", conv_in);
  visitor.child("mid_block", mid_block);
  visitor.children("up_blocks", up_blocks);
  visitor.child("conv_norm_out", conv_norm_out);
  visitor.conv("conv_out", conv_out);
}

Vae::Vae(const VaeConfig& c)
    : config(c),
      encoder(c),
      decoder(c),
      running_mean(mx::zeros({4 * c.latent_channels})),
      running_var(mx::ones({4 * c.latent_channels})) {
  if (c.use_quant_conv) quant_conv.emplace(2 * c.latent_channels, 2 * c.latent_channels, 1);
  if (c.use_post_quant_conv) post_quant_conv.emplace(c.latent_channels, c.latent_channels, 1);
}

void Vae::expect_pixels(const mx::array& pixels) const {
  expect_last_axis(pixels, config.in_channels, "pictures to encode");
  if (pixels.shape(1) % config.scale() != 0 || pixels.shape(2) % config.scale() != 0)
    throw Error(ErrorKind::shape, fmt::format("pictures to encode: expected sides that are "
                                              "multiples of {}, got {} x {}",
                                              config.scale(), pixels.shape(2), pixels.shape(1)));
}

mx::array Vae::mean_of(const mx::array& moments) const {
  const auto [mean, log_variance] = chunk<2>(quant_conv ? (*quant_conv)(moments) : moments);
  return mean;
}

mx::array Vae::encode(const mx::array& pixels) const {
  expect_pixels(pixels);
  return mean_of(encoder(pixels));
}

mx::array Vae::decode(const mx::array& latents) const {
  expect_last_axis(latents, config.latent_channels, "latents to decode");
  return decoder(post_quant_conv ? (*post_quant_conv)(latents) : latents);
}

mx::array Vae::normalize(const mx::array& packed) const {
  const auto dtype = packed.dtype();
  const auto var = mx::astype(running_var, dtype);
  const auto deviation = mx::sqrt(var + scalar_like(var, config.batch_norm_eps));
  return (packed - mx::astype(running_mean, dtype)) / deviation;
}

mx::array Vae::denormalize(const mx::array& packed) const {
  const auto dtype = packed.dtype();
  const auto var = mx::astype(running_var, dtype);
  const auto deviation = mx::sqrt(var + scalar_like(var, config.batch_norm_eps));
  return packed * deviation + mx::astype(running_mean, dtype);
}

void Vae::visit(nn::Visitor& visitor) {
  visitor.child("encoder", encoder);
  visitor.child("decoder", decoder);
  if (quant_conv) visitor.conv("quant_conv", *quant_conv);
  if (post_quant_conv) visitor.conv("post_quant_conv", *post_quant_conv);
  visitor.array("bn.running_mean", running_mean);
  visitor.array("bn.running_var", running_var);
}

}  // namespace klein::flux2
