#include <algorithm>
#include <optional>

#include <fmt/format.h>

#include "klein/ops/cuda/conv.h"
#include "klein/ops/cuda/fp8.h"
#include "klein/ops/cuda/joined.h"
#include "klein/ops/cuda/kernel.h"
#include "klein/ops/cuda/native.h"
#include "klein/ops/cuda/recipes.h"
#include "klein/ops/portable.h"

namespace klein::ops::cuda {
namespace {

constexpr int kMostThreads = 1024;  // of a block

/// A block reads a row at once: 8 numbers a thread, whole warps.
bool fits_a_block(int channels) {
  return channels % kLanes == 0 && channels <= kLanes * kMostThreads;
}

unsigned threads_for(int channels) {
  return blocks_for(channels / kLanes, 32) * 32;
}

Dim block_a_row(const mx::array& a) {
  return {static_cast<unsigned>(row_count(a))};
}

constexpr int kNormRows = 4;  // of a block of the kernels for a width

/// Widths that have a kernel of their own.
bool has_row_norm(int channels) {
  return channels == 3072 || channels == 4096;
}

CUfunction row_norm(int channels, const char* kind) {
  return function("common", fmt::format("modulated_layer_norm_{}_{}", channels, kind).c_str());
}

Dim row_norm_grid(const mx::array& a) {
  const auto batch = static_cast<unsigned>(a.shape(0));
  return {blocks_for(row_count(a) / a.shape(0), kNormRows), batch};
}

/// 32 numbers each.
Dim row_norm_block(int channels) {
  return {static_cast<unsigned>(kNormRows * channels / 32)};
}

/// A head's lanes are a power of two and share a warp.
bool fits_heads(const mx::array& x) {
  const int width = x.shape(3) / kLanes;
  return x.shape(3) % kLanes == 0 && width <= 32 && (width & (width - 1)) == 0;
}

bool fits_group_norm(const mx::array& x, int groups) {
  const int channels = x.shape(3), each = channels / groups;
  return channels % kLanes == 0 && channels <= 256 * kLanes && (each % kLanes == 0 || each == 4);
}

constexpr unsigned kPictureThreads = 256;

std::int64_t pixels_of(const mx::array& x) {
  return std::int64_t{x.shape(1)} * x.shape(2);
}

/// How many blocks share a picture: enough for the GPU, and some pixels for each.
unsigned picture_parts(const mx::array& x, unsigned blocks_each) {
  const auto most = static_cast<unsigned>(multiprocessors()) * blocks_each;
  return std::clamp(blocks_for(pixels_of(x) * x.shape(3), kPictureThreads * kLanes * 4), 1u, most);
}

/// The inputs of one part of a NormRopeRecipe.
struct RopePart {
  RopePart(std::span<const mx::array> all, std::size_t number)
      : RopePart(all.subspan(number * NormRopeRecipe::kInputs, NormRopeRecipe::kInputs)) {}

  int tokens() const { return x.shape(0) * x.shape(1); }
  int heads() const { return x.shape(2); }
  int width() const { return x.shape(3) / kLanes; }
  Dim grid() const { return {blocks_for(std::int64_t{tokens()} * heads() * width(), 256)}; }

  const mx::array &x, &weight, &cosines, &sines;

 private:
  explicit RopePart(std::span<const mx::array> own)
      : x(own[0]), weight(own[1]), cosines(own[2]), sines(own[3]) {}
};

/// Tokens of `out` from `first` on.
void launch_norm_rope(Launcher& launcher, const RopePart& part, float eps, const mx::array& out,
                      int first) {
  const auto x = launcher.with_rows(part.x), weight = launcher.with_rows(part.weight);
  launcher.run(function("common", "rms_norm_rope_interleaved_bf16"), part.grid(), {256}, 0,
               rows(x, /*heads=*/true), address(weight),
               address(launcher.in_row_order(part.cosines)),
               address(launcher.in_row_order(part.sines)), part.tokens(), part.heads(),
               part.width(), eps, address(out), first, out.shape(1));
}

/// The shape of an array of NormRopeRecipe.
mx::Shape joined_shape(const NormRopeRecipe& recipe, std::span<const mx::array> in) {
  auto shape = in[0].shape();
  for (std::size_t i = 1; i < recipe.eps.size(); ++i) shape[1] += RopePart(in, i).x.shape(1);
  return shape;
}

/// What inputs_of_biased took apart.
mx::array whole(const std::vector<mx::array>& parts, std::size_t bias) {
  return parts.size() > bias ? parts[0] + parts[bias] : parts[0];
}

}  // namespace

mx::array modulated_layer_norm(const mx::array& x, const mx::array& scale, const mx::array& shift,
                               float eps) {
  if (!fits_a_block(x.shape(-1))) return portable::modulated_layer_norm(x, scale, shift, eps);
  const auto per_picture = [](const mx::array& a) {
    return mx::reshape(a, {a.shape(0), 1, a.shape(-1)});
  };
  return gpu_kernel(
      "modulated_layer_norm", {x, per_picture(scale), per_picture(shift)}, x.shape(), mx::bfloat16,
      [eps](Launcher& launcher, const auto& in, auto& out) {
        const auto a = launcher.with_rows(in[0]), s = launcher.with_rows(in[1]),
                   t = launcher.with_rows(in[2]);
        const int channels = a.shape(-1);
        if (has_row_norm(channels))
          launcher.run(row_norm(channels, "bf16"), row_norm_grid(a), row_norm_block(a.shape(-1)), 0,
                       rows(a), rows(s), rows(t), eps, address(out[0]));
        else
          launcher.run(function("common", "modulated_layer_norm_bf16"), block_a_row(a),
                       {threads_for(channels)}, 0, rows(a), rows(s), rows(t), channels, eps,
                       address(out[0]));
      },
      [eps](const auto& in) { return portable::modulated_layer_norm(in[0], in[1], in[2], eps); },
      ModulatedNormRecipe{eps});
}

std::optional<Fp8Rows> fp8_of_modulated_norm(const mx::array& normed) {
  const auto* recipe = recipe_of<ModulatedNormRecipe>(normed);
  if (recipe == nullptr || !has_row_norm(normed.shape(-1))) return std::nullopt;
  const auto made = gpu_kernel(
      "modulated_layer_norm_fp8", normed.inputs(), {normed.shape(), {row_count(normed)}},
      {mx::uint8, mx::float32}, [eps = recipe->eps](Launcher& launcher, const auto& in, auto& out) {
        const auto a = launcher.with_rows(in[0]), s = launcher.with_rows(in[1]),
                   t = launcher.with_rows(in[2]);
        launcher.run(row_norm(a.shape(-1), "fp8"), row_norm_grid(a), row_norm_block(a.shape(-1)), 0,
                     rows(a), rows(s), rows(t), eps, address(out[0]), address(out[1]));
      });
  return Fp8Rows{made[0], made[1]};
}

mx::array rms_norm_rounded_twice(const mx::array& x, const mx::array& weight, float eps) {
  if (!fits_a_block(x.shape(-1)) || x.ndim() > 3)
    return portable::rms_norm_rounded_twice(x, weight, eps);
  return gpu_kernel(
      "rms_norm_rounded_twice", {x, weight}, x.shape(), mx::bfloat16,
      [eps](Launcher& launcher, const auto& in, auto& out) {
        const auto a = launcher.with_rows(in[0]), w = launcher.with_rows(in[1]);
        launcher.run(function("common", "rms_norm_rounded_twice_bf16"), block_a_row(a),
                     {threads_for(a.shape(-1))}, 0, rows(a), address(w), a.shape(-1), eps,
                     address(out[0]));
      },
      [eps](const auto& in) { return portable::rms_norm_rounded_twice(in[0], in[1], eps); });
}

mx::array rms_norm_rope_interleaved(const mx::array& x, const mx::array& weight, float eps,
                                    const mx::array& cosines, const mx::array& sines) {
  if (!fits_heads(x)) return portable::rms_norm_rope_interleaved(x, weight, eps, cosines, sines);
  const NormRopeRecipe recipe{{eps}};
  return gpu_kernel(
      "rms_norm_rope_interleaved", {x, weight, cosines, sines}, x.shape(), mx::bfloat16,
      [eps](Launcher& launcher, const auto& in, auto& out) {
        launch_norm_rope(launcher, {in, 0}, eps, out[0], 0);
      },
      [recipe](const auto& in) { return portable_norm_rope(recipe, in); }, recipe);
}

mx::array joined_norm_rope(const std::vector<mx::array>& parts) {
  std::vector<mx::array> inputs;
  NormRopeRecipe recipe;
  for (const auto& part : parts) {
    const auto& eps = recipe_of<NormRopeRecipe>(part)->eps;
    recipe.eps.insert(recipe.eps.end(), eps.begin(), eps.end());
    inputs.insert(inputs.end(), part.inputs().begin(), part.inputs().end());
  }
  auto shape = joined_shape(recipe, inputs);
  return gpu_kernel(
      "joined_norm_rope", std::move(inputs), std::move(shape), mx::bfloat16,
      [recipe](Launcher& launcher, const auto& in, auto& out) {
        int first = 0;
        for (std::size_t i = 0; i < recipe.eps.size(); ++i) {
          const RopePart part(in, i);
          launch_norm_rope(launcher, part, recipe.eps[i], out[0], first);
          first += part.x.shape(1);
        }
      },
      [recipe](const auto& in) { return portable_norm_rope(recipe, in); }, recipe);
}

bool turn_alike(const mx::array& q, const mx::array& k) {
  const auto* of_q = recipe_of<NormRopeRecipe>(q);
  const auto* of_k = recipe_of<NormRopeRecipe>(k);
  if (of_q == nullptr || of_k == nullptr || of_q->eps.size() != of_k->eps.size()) return false;
  for (std::size_t i = 0; i < of_q->eps.size(); ++i) {
    const RopePart a(q.inputs(), i), b(k.inputs(), i);
    if (a.x.shape() != b.x.shape() || a.cosines.id() != b.cosines.id() ||
        a.sines.id() != b.sines.id())
      return false;
  }
  return true;
}

std::pair<mx::array, mx::array> launch_norm_rope_pair(Launcher& launcher, const NormRopeRecipe& q,
                                                      const NormRopeRecipe& k,
                                                      std::span<const mx::array> in) {
  const auto q_inputs = in.first(q.input_count());
  const auto k_inputs = in.subspan(q_inputs.size());
  const auto shape = joined_shape(q, q_inputs);
  const auto q_out = launcher.scratch(shape, mx::bfloat16);
  const auto k_out = launcher.scratch(shape, mx::bfloat16);
  int first = 0;
  for (std::size_t i = 0; i < q.eps.size(); ++i) {
    const RopePart a(q_inputs, i), b(k_inputs, i);
    const auto x = launcher.with_rows(a.x), y = launcher.with_rows(b.x);
    const auto x_weight = launcher.with_rows(a.weight), y_weight = launcher.with_rows(b.weight);
    launcher.run(function("common", "rms_norm_rope_pair_bf16"), a.grid(), {256}, 0,
                 rows(x, /*heads=*/true), rows(y, /*heads=*/true), address(x_weight),
                 address(y_weight), address(launcher.in_row_order(a.cosines)),
                 address(launcher.in_row_order(a.sines)), a.tokens(), a.heads(), a.width(),
                 q.eps[i], k.eps[i], address(q_out), address(k_out), first, shape[1]);
    first += a.x.shape(1);
  }
  return {q_out, k_out};
}

mx::array portable_norm_rope(const NormRopeRecipe& recipe, std::span<const mx::array> in) {
  std::vector<mx::array> made;
  for (std::size_t i = 0; i < recipe.eps.size(); ++i) {
    const RopePart part(in, i);
    made.push_back(portable::rms_norm_rope_interleaved(part.x, part.weight, recipe.eps[i],
                                                       part.cosines, part.sines));
  }
  return made.size() == 1 ? made.front() : mx::concatenate(made, 1);
}

mx::array rms_norm_rope_half(const mx::array& x, const mx::array& weight, float eps,
                             const mx::array& cosines, const mx::array& sines) {
  const auto portable_version = [eps](const std::vector<mx::array>& in) {
    return portable::rope_half(portable::rms_norm_rounded_twice(in[0], in[1], eps), in[2], in[3]);
  };
  // A thread's eight numbers lie in one half of the head.
  if (!fits_heads(x) || x.shape(3) < 2 * kLanes)
    return portable_version({x, weight, cosines, sines});
  return gpu_kernel(
      "rms_norm_rope_half", {x, weight, cosines, sines}, x.shape(), mx::bfloat16,
      [eps](Launcher& launcher, const auto& in, auto& out) {
        const auto a = launcher.with_rows(in[0]), w = launcher.with_rows(in[1]);
        const int tokens = a.shape(0) * a.shape(1), heads = a.shape(2);
        const int width = a.shape(3) / kLanes;
        launcher.run(function("common", "rms_norm_rope_half_bf16"),
                     {blocks_for(std::int64_t{tokens} * heads * width, 256)}, {256}, 0,
                     rows(a, /*heads=*/true), address(w), address(launcher.in_row_order(in[2])),
                     address(launcher.in_row_order(in[3])), tokens, heads, width, eps,
                     address(out[0]));
      },
      portable_version);
}

mx::array group_moments(const mx::array& x, int groups) {
  if (!fits_group_norm(x, groups)) return portable::group_moments(x, groups);
  return gpu_kernel(
      "group_moments", inputs_of_biased(x), {x.shape(0), groups, 2}, mx::float32,
      [groups](Launcher& launcher, const auto& in, auto& out) {
        const auto a = launcher.in_row_order(in[0]);
        const void* bias = in.size() > 1 ? address(in[1]) : nullptr;
        const auto batch = static_cast<unsigned>(a.shape(0));
        const auto parts = picture_parts(a, 4);
        constexpr std::size_t kMomentsBytes = 12;
        const auto partial =
            launcher.scratch(kMomentsBytes * parts * batch * static_cast<unsigned>(groups));
        launcher.run(function("picture", "group_moments_part_bf16"), {parts, batch},
                     {kPictureThreads}, 0, address(a), bias, pixels_of(a), a.shape(3), groups,
                     address(partial));
        launcher.run(function("picture", "group_moments_merge"),
                     {static_cast<unsigned>(groups), batch}, {kPictureThreads}, 0, address(partial),
                     static_cast<int>(parts), groups, address(out[0]));
      },
      [groups](const auto& in) { return portable::group_moments(whole(in, 1), groups); });
}

mx::array group_norm_with(const mx::array& x, const mx::array& moments, const mx::array& weight,
                          const mx::array& bias, float eps, bool silu) {
  const int groups = moments.shape(1);
  if (!fits_group_norm(x, groups))
    return portable::group_norm_with(x, moments, weight, bias, eps, silu);
  std::vector<mx::array> inputs{mx::contiguous(moments), weight, bias};
  for (auto& part : inputs_of_biased(x)) inputs.push_back(std::move(part));
  return gpu_kernel(
      "group_norm", std::move(inputs), x.shape(), mx::bfloat16,
      [groups, eps, silu](Launcher& launcher, const auto& in, auto& out) {
        const auto w = launcher.with_rows(in[1]), b = launcher.with_rows(in[2]);
        const auto a = launcher.in_row_order(in[3]);
        const void* x_bias = in.size() > 4 ? address(in[4]) : nullptr;
        launcher.run(function("picture", "group_norm_apply_bf16"),
                     {picture_parts(a, 4), static_cast<unsigned>(a.shape(0))}, {kPictureThreads}, 0,
                     address(a), x_bias, address(in[0]), address(w), address(b), pixels_of(a),
                     a.shape(3), groups, eps, static_cast<int>(silu), address(out[0]));
      },
      [eps, silu](const auto& in) {
        const std::vector<mx::array> x_parts(in.begin() + 3, in.end());
        return portable::group_norm_with(whole(x_parts, 1), in[0], in[1], in[2], eps, silu);
      });
}

mx::array group_norm(const mx::array& x, const mx::array& weight, const mx::array& bias, int groups,
                     float eps, bool silu) {
  return cuda::group_norm_with(x, cuda::group_moments(x, groups), weight, bias, eps, silu);
}

}  // namespace klein::ops::cuda
