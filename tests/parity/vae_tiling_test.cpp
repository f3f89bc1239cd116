// The autoencoder in parts: diffusers' tiles against diffusers, strips against the whole.

#include <algorithm>
#include <string>

#include <doctest/doctest.h>

#include "klein/core/error.h"
#include "klein/io/json.h"
#include "klein/models/flux2/vae_strips.h"
#include "klein/models/flux2/vae_tiles.h"
#include "klein/ops/backend.h"
#include "klein/tensor/device.h"
#include "support/json.h"
#include "support/tensors.h"

namespace klein {
namespace {

using test::check_close;
using test::nhwc;

constexpr flux2::TileSizes kTiles{.sample = 32, .latent = 4, .overlap = 0.25};

/// The tiny autoencoder of a fixture, with its weights.
flux2::Vae vae_of(const std::string& name, mx::Dtype dtype) {
  const auto json = test::fixture_json(name);
  flux2::Vae vae(flux2::VaeConfig::from_json({json, name}));
  auto f = test::fixture(dtype == mx::float32 ? name : name + "_bf16");
  f.weights.erase("bn.num_batches_tracked");
  test::fill(vae, f, dtype);
  return vae;
}

mx::array noise(const mx::Shape& shape, mx::Dtype dtype, unsigned seed) {
  auto a = mx::astype(mx::random::normal(shape, mx::float32, mx::random::key(seed)), dtype);
  mx::eval(a);
  return a;
}

mx::array window(const mx::array& a, int top, int bottom, int left, int right) {
  return mx::slice(a, {0, top, left, 0}, {1, bottom, right, a.shape(3)});
}

bool same_bits(const mx::array& a, const mx::array& b) {
  return mx::array_equal(a, b).item<bool>();
}

/// diffusers' rows and columns one by one: every product and sum rounds to the dtype.
mx::array blended(const mx::array& a, const mx::array& b, int axis, int extent) {
  auto result = b;
  for (int i = 0; i < extent; ++i) {
    const double weight = static_cast<double>(i) / extent;
    const auto line = [&](const mx::array& tile, int at, double factor) {
      const auto wide = mx::astype(mx::take(tile, mx::array({at}), axis), mx::float32);
      return mx::astype(wide * mx::array(static_cast<float>(factor)), b.dtype());
    };
    const auto mixed = line(a, a.shape(axis) - extent + i, 1 - weight) + line(b, i, weight);
    mx::Shape from(4, 0), to = b.shape();
    from[static_cast<std::size_t>(axis)] = i;
    to[static_cast<std::size_t>(axis)] = i + 1;
    result = mx::slice_update(result, mixed, from, to);
  }
  return result;
}

TEST_SUITE("parity/vae_tiling") {
  TEST_CASE("diffusers' tiles equal diffusers in both directions") {
    for (const auto dtype : {mx::float32, mx::bfloat16}) {
      const bool wide = dtype == mx::float32;
      const auto f = test::fixture(wide ? "vae/tiled" : "vae/tiled_bf16");
      const auto vae = vae_of("vae/autoencoder_a", dtype);
      const float tolerance = wide ? test::kFloat32 : 4e-2f;
      check_close(flux2::encode_in_tiles(vae, nhwc(f["image"]), kTiles), nhwc(f["mean"]), tolerance,
                  f.name + " mean");
      check_close(flux2::decode_in_tiles(vae, nhwc(f["latents"]), kTiles), nhwc(f["decoded"]),
                  tolerance, f.name + " decoded");
    }
  }

  TEST_CASE("four tiles are blended as diffusers does, in every bit") {
    for (const auto dtype : {mx::float32, mx::bfloat16}) {
      const auto vae = vae_of("vae/autoencoder_a", dtype);
      const auto z = noise({1, 5, 6, 4}, dtype, 1);
      const auto tile = [&](int top, int left) {
        return vae.decode(window(z, top, std::min(top + 4, 5), left, std::min(left + 4, 6)));
      };
      const auto a = tile(0, 0);
      const auto b = blended(a, tile(0, 3), 2, 8);
      const auto c = blended(a, tile(3, 0), 1, 8);
      const auto d = blended(c, blended(b, tile(3, 3), 1, 8), 2, 8);
      const auto upper = mx::concatenate({window(a, 0, 24, 0, 24), window(b, 0, 24, 0, 24)}, 2);
      const auto lower = mx::concatenate({window(c, 0, 16, 0, 24), window(d, 0, 16, 0, 24)}, 2);
      CHECK(same_bits(flux2::decode_in_tiles(vae, z, kTiles), mx::concatenate({upper, lower}, 1)));
    }
  }

  TEST_CASE("a picture no larger than a tile is not cut") {
    const auto vae = vae_of("vae/autoencoder_a", mx::float32);
    const auto z = noise({1, 4, 3, 4}, mx::float32, 1), x = noise({1, 32, 24, 3}, mx::float32, 2);
    CHECK(same_bits(flux2::decode_in_tiles(vae, z, kTiles), vae.decode(z)));
    CHECK(same_bits(flux2::encode_in_tiles(vae, x, kTiles), vae.encode(x)));
  }

  TEST_CASE("strips give the picture and the latents of the whole") {
    struct Sizes {
      int batch, rows, columns, strip;
    };
    for (const std::string name : {"vae/autoencoder_a", "vae/autoencoder_b"})
      for (const auto& [batch, rows, columns, strip] :
           {Sizes{1, 5, 3, 1}, Sizes{1, 7, 4, 3}, Sizes{2, 3, 5, 5}, Sizes{1, 1, 2, 2},
            Sizes{1, 6, 6, 16}, Sizes{1, 5, 4, 1000}}) {
        const auto vae = vae_of(name, mx::float32);
        const auto z = noise({batch, rows, columns, vae.config.latent_channels}, mx::float32, 1);
        const auto x = noise({batch, 8 * rows, 8 * columns, 3}, mx::float32, 2);
        const auto what =
            name + " rows " + std::to_string(rows) + " strip " + std::to_string(strip);
        check_close(flux2::decode_in_strips(vae, z, strip), vae.decode(z), 3e-6f,
                    what + " decoded");
        check_close(flux2::encode_in_strips(vae, x, strip), vae.encode(x), 3e-6f,
                    what + " encoded");
      }
  }

  TEST_CASE("strips equal the whole in bfloat16 but for single roundings") {
    const auto vae = vae_of("vae/autoencoder_a", mx::bfloat16);
    const auto z = noise({1, 9, 7, 4}, mx::bfloat16, 1);
    const auto x = noise({1, 72, 56, 3}, mx::bfloat16, 2);
    check_close(flux2::decode_in_strips(vae, z, 5), vae.decode(z), 2e-2f, "decoded");
    check_close(flux2::encode_in_strips(vae, x, 5), vae.encode(x), 2e-2f, "encoded");
  }

  TEST_CASE("strips need no kernels of our own") {
    const auto vae = vae_of("vae/autoencoder_a", mx::float32);
    const auto z = noise({1, 5, 3, 4}, mx::float32, 1);
    ops::set_backend(ops::Backend::portable);
    const auto got = flux2::decode_in_strips(vae, z, 3);
    auto want = vae.decode(z);
    mx::eval(want);
    ops::set_backend(ops::Backend::native);
    check_close(got, want, 3e-6f, "portable");
  }

  TEST_CASE("what cannot be cut is refused") {
    const auto vae = vae_of("vae/autoencoder_a", mx::float32);
    const auto z = mx::zeros({1, 5, 5, 4});
    CHECK_THROWS_WITH_AS(flux2::decode_in_strips(vae, z, 0),
                         "expected strips of at least 1 row, got 0", Error);
    CHECK_THROWS_WITH_AS(flux2::decode_in_strips(vae, mx::zeros({1, 5, 5, 3}), 8),
                         "latents to decode: expected last axis 4, got [1, 5, 5, 3] float32",
                         Error);
    CHECK_THROWS_WITH_AS(flux2::encode_in_strips(vae, mx::zeros({1, 12, 8, 3}), 8),
                         "pictures to encode: expected sides that are multiples of 8, got 8 x 12",
                         Error);
    CHECK_THROWS_WITH_AS(
        flux2::decode_in_tiles(vae, z, {.sample = 8, .latent = 1, .overlap = 0.25}),
        "expected tiles that are larger than their overlap, got sides of 1 and 8 with an overlap "
        "of 0.25",
        Error);
  }
}

}  // namespace
}  // namespace klein
