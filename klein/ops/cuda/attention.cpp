#include "klein/ops/attention.h"

#include <algorithm>
#include <span>

#include <cuda_runtime.h>

#include "klein/ops/cuda/driver.h"
#include "klein/ops/cuda/hopper.h"
#include "klein/ops/cuda/joined.h"
#include "klein/ops/cuda/kernel.h"
#include "klein/ops/cuda/kernels/hopper_attention_params.h"
#include "klein/ops/cuda/memory.h"
#include "klein/ops/cuda/native.h"
#include "klein/ops/cuda/recipes.h"
#include "klein/ops/portable.h"

namespace klein::ops::cuda {
namespace {

constexpr const char* kFile = "hopper_attention";
constexpr int kHeadDim = 128;
constexpr int kQueryTile = 64;  // of a warpgroup; a block has two
constexpr unsigned kThreads = 384;

struct Kind {
  const char* name;
  int keys;  // that a block takes at a time
};
constexpr Kind kPlain{"hopper_attention", HOPPER_ATTENTION_KEYS};
constexpr Kind kCausal{"hopper_attention_causal", HOPPER_ATTENTION_CAUSAL_KEYS};

/// Counters and partial results of the launches of a thread, and so of its stream, one after the
/// other: the counters are zeros at first, and each launch leaves them so.
const mx::array& workspace() {
  thread_local const auto made = [] {
    const auto bytes = static_cast<std::size_t>(HOPPER_ATTENTION_WORKSPACE(multiprocessors()));
    auto memory = device_memory(bytes, nullptr);
    check(cudaMemset(data_of(memory), 0, HOPPER_ATTENTION_COUNTERS * sizeof(int)),
          "memory for attention");
    check(cudaDeviceSynchronize(), "memory for attention");
    return mx::array(std::move(memory), {static_cast<int>(bytes)}, mx::uint8);
  }();
  return made;
}

CUtensorMap heads_map(const mx::array& a, int tokens) {
  const auto r = rows(a, /*heads=*/true);
  // A batch of one may have any stride, which the map nevertheless checks.
  const auto batch_stride = a.shape(0) > 1 ? r.batch_stride : r.row_stride * a.shape(1);
  return tensor_map(r.data, {kHeadDim, a.shape(2), a.shape(1), a.shape(0)},
                    {kHeadDim, r.row_stride, batch_stride}, {kHeadDim / 2, 1, tokens, 1});
}

bool fits(const mx::array& q, const mx::array& k) {
  return has_image(kFile) && q.shape(3) == kHeadDim && k.shape(1) > 0;
}

/// Result rows of `out_stride` numbers. Causal with `lengths` [B] int32, which may be null.
void launch(Launcher& launcher, const Kind& kind, const std::vector<mx::array>& heads, float scale,
            void* out, int out_stride, const int* lengths) {
  const auto q = launcher.with_rows(heads[0]), k = launcher.with_rows(heads[1]),
             v = launcher.with_rows(heads[2]);
  launcher.writes(workspace());
  const int queries = q.shape(1);
  const HopperAttentionParams params{.out = out,
                                     .out_batch_stride = std::int64_t{queries} * out_stride,
                                     .out_token_stride = out_stride,
                                     .workspace = pointer<float>(workspace()),
                                     .scale_log2e = scale * 1.4426950408889634f,
                                     .queries = queries,
                                     .keys = k.shape(1),
                                     .heads = q.shape(2),
                                     .batch = q.shape(0),
                                     .group = q.shape(2) / k.shape(2),
                                     .split = 1,
                                     .key_lengths = lengths};
  const auto shared = static_cast<std::size_t>(HOPPER_ATTENTION_SHARED(kind.keys));
  launcher.run(function(kFile, kind.name, shared), {static_cast<unsigned>(multiprocessors())},
               {kThreads}, shared, heads_map(q, kQueryTile), heads_map(k, kind.keys),
               heads_map(v, kind.keys), params);
}

/// q, k and v of an array of AttentionRecipe.
std::vector<mx::array> heads_of(Launcher& launcher, const AttentionRecipe& recipe,
                                const std::vector<mx::array>& in) {
  if (recipe.q.eps.empty()) return {in[0], in[1], in[2]};
  const auto made = recipe.q.input_count() + recipe.k.input_count();
  auto [q, k] = launch_norm_rope_pair(launcher, recipe.q, recipe.k, std::span(in).first(made));
  return {q, k, in[made]};
}

/// What it is, in MLX's own operations.
mx::array portable_attention(const AttentionRecipe& recipe, const std::vector<mx::array>& in) {
  if (recipe.q.eps.empty()) return portable::attention(in[0], in[1], in[2], recipe.scale);
  const auto of_q = recipe.q.input_count(), of_k = recipe.k.input_count();
  const std::span all(in);
  return portable::attention(portable_norm_rope(recipe.q, all.first(of_q)),
                             portable_norm_rope(recipe.k, all.subspan(of_q, of_k)), in[of_q + of_k],
                             recipe.scale);
}

mx::array plain_attention(const mx::array& q, const mx::array& k, const mx::array& v, float scale) {
  AttentionRecipe recipe{.scale = scale, .q = {}, .k = {}};
  std::vector<mx::array> inputs{q, k};
  if (turn_alike(q, k)) {
    recipe.q = *recipe_of<NormRopeRecipe>(q);
    recipe.k = *recipe_of<NormRopeRecipe>(k);
    inputs = q.inputs();
    inputs.insert(inputs.end(), k.inputs().begin(), k.inputs().end());
  }
  inputs.push_back(v);
  return gpu_kernel(
      "attention", std::move(inputs), q.shape(), mx::bfloat16,
      [recipe](Launcher& launcher, const auto& in, auto& out) {
        launch(launcher, kPlain, heads_of(launcher, recipe, in), recipe.scale, address(out[0]),
               out[0].shape(2) * out[0].shape(3), nullptr);
      },
      [recipe](const auto& in) { return portable_attention(recipe, in); }, recipe);
}

}  // namespace

mx::array attention(const mx::array& q, const mx::array& k, const mx::array& v, float scale,
                    const AttentionMask& mask) {
  const auto& lengths = mask.key_lengths;
  const bool every_row_sees = std::ranges::all_of(lengths, [](int n) { return n > 0; });
  if (!fits(q, k) || (!mask.causal && !lengths.empty()) || !every_row_sees)
    return portable::attention(q, k, v, scale, mask);
  const auto twin = [scale, mask](const std::vector<mx::array>& in) {
    return portable::attention(in[0], in[1], in[2], scale, mask);
  };
  if (!mask.causal) return plain_attention(q, k, v, scale);
  const int row = q.shape(2) * q.shape(3);
  std::vector<mx::array> inputs{q, k, v};
  if (!lengths.empty())
    inputs.push_back(mx::array(lengths.begin(), {static_cast<int>(lengths.size())}, mx::int32));
  return gpu_kernel(
      "causal_attention", std::move(inputs), q.shape(), mx::bfloat16,
      [scale, row](Launcher& launcher, const auto& in, auto& out) {
        launch(launcher, kCausal, in, scale, address(out[0]), row,
               in.size() > 3 ? pointer<int>(in[3]) : nullptr);
      },
      twin);
}

const mx::array* attention_of(const mx::array& flat) {
  if (recipe_of<AttentionRecipe>(flat)) return &flat;
  const bool is_view = flat.status() == mx::array::Status::unscheduled && flat.has_primitive() &&
                       flat.inputs().size() == 1 && flat.ndim() == 3;
  if (!is_view) return nullptr;
  const auto& heads = flat.inputs()[0];
  const bool is_flat = heads.ndim() == 4 && flat.shape(2) == heads.shape(2) * heads.shape(3) &&
                       flat.shape(0) == heads.shape(0) && flat.shape(1) == heads.shape(1);
  return is_flat && recipe_of<AttentionRecipe>(heads) ? &heads : nullptr;
}

mx::array joined_attention_swiglu(const mx::array& seen, const mx::array& gated) {
  const auto recipe = *recipe_of<AttentionRecipe>(seen);
  std::vector<mx::array> inputs = seen.inputs();
  const auto first = inputs.size();  // of what gates
  inputs.insert(inputs.end(), gated.inputs().begin(), gated.inputs().end());
  const int left = seen.shape(2) * seen.shape(3), width = left + gated.shape(-1);
  return gpu_kernel(
      "attention_swiglu_product", std::move(inputs), {seen.shape(0), seen.shape(1), width},
      mx::bfloat16,
      [recipe, first, left, width](Launcher& launcher, const auto& in, auto& out) {
        auto* to = pointer<std::uint16_t>(out[0]);
        launch(launcher, kPlain, heads_of(launcher, recipe, in), recipe.scale, to, width, nullptr);
        const auto x = launcher.in_row_order(in[first]);
        const auto gate = launcher.in_row_order(in[first + 1]);
        const auto up = launcher.in_row_order(in[first + 2]);
        launch_swiglu_product(launcher, x, gate, up, to + left, width);
      },
      [recipe, first](const auto& in) {
        return mx::concatenate(
            {mx::flatten(portable_attention(recipe, in), 2, 3),
             portable::swiglu(portable::linear(in[first], in[first + 1], std::nullopt),
                              portable::linear(in[first], in[first + 2], std::nullopt))},
            -1);
      });
}

}  // namespace klein::ops::cuda
