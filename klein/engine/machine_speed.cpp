#include "klein/engine/machine_speed.h"

#include <algorithm>
#include <cmath>
#include <map>
#include <utility>
#include <vector>

#include "klein/core/stopwatch.h"
#include "klein/models/flux2/flops.h"
#include "klein/ops/attention.h"
#include "klein/ops/backend.h"
#include "klein/ops/cuda/native.h"
#include "klein/ops/linear.h"
#include "klein/quant/target.h"
#include "klein/weights/quantize.h"

namespace klein {
namespace {

constexpr double kFloorSecs = 1.5;  // long enough for a GPU to reach its power limit

mx::array random_array(const mx::Shape& shape, mx::Dtype dtype) {
  auto a = mx::astype(mx::random::normal(shape), dtype);
  mx::eval(a);
  return a;
}

/// What a step's product reads: in 8 bits where its blocks multiply such.
struct Factors {
  ops::Weight x, weight;

  mx::array product() const {
    if (const auto* rows = std::get_if<ops::PackedMatrix>(&x))
      return ops::cuda::fp8_product(*rows, std::get<ops::PackedMatrix>(weight));
    return ops::linear(std::get<mx::array>(x), weight);
  }
};

ops::Weight in_fp8(const mx::array& a) {
  auto packed = weights::quantize(a, quant::parse_target("fp8"));
  mx::eval(packed.codes, *packed.scales);
  return packed;
}

/// A step's products and attentions on numbers of their own; no result is used by another.
class BareStep {
 public:
  BareStep(const flux2::TransformerConfig& config, int text, int image, mx::Dtype dtype)
      : config_(config),
        dtype_(dtype),
        products_(flux2::step_products(config, text, image)),
        heads_(random_array(
            {1, text + image, config.num_attention_heads, config.attention_head_dim}, dtype)) {}

  void operator()() {
    start(products_.outside, false, false);
    const bool fp8 = ops::fp8_products();
    for (int i = 0; i < config_.num_layers; ++i) start(products_.double_block, true, fp8);
    for (int i = 0; i < config_.num_single_layers; ++i) start(products_.single_block, true, fp8);
    mx::synchronize();
  }

 private:
  /// Results go as soon as they are there: a step has room for those of a block only.
  void start(const std::vector<flux2::Product>& products, bool attends, bool fp8) {
    std::vector<mx::array> results;
    for (const auto& product : products) results.push_back(factors(product, fp8).product());
    const float scale = 1.0f / std::sqrt(static_cast<float>(heads_.shape(3)));
    if (attends) results.push_back(ops::attention(heads_, heads_, heads_, scale));
    mx::async_eval(results);
  }

  const Factors& factors(const flux2::Product& product, bool fp8) {
    auto it = factors_.find(product);
    if (it == factors_.end()) {
      const auto x = random_array({product.rows, product.in}, dtype_);
      const auto weight = random_array({product.out, product.in}, dtype_);
      it = factors_.emplace(product, fp8 ? Factors{in_fp8(x), in_fp8(weight)} : Factors{x, weight})
               .first;
    }
    return it->second;
  }

  const flux2::TransformerConfig& config_;
  mx::Dtype dtype_;
  flux2::StepProducts products_;
  mx::array heads_;
  std::map<flux2::Product, Factors> factors_;
};

}  // namespace

double gemm_flops_per_sec(const flux2::TransformerConfig& c, int tokens, mx::Dtype dtype) {
  const int in = c.dim(), out = 3 * c.dim() + 2 * c.mlp_dim();
  const auto x = random_array({tokens, in}, dtype), weight = random_array({out, in}, dtype);
  double best_secs = 1e30;
  for (int round = 0; round < 5; ++round) {
    const Stopwatch watch;
    auto y = ops::linear(x, weight);
    mx::eval(y);
    mx::synchronize();
    best_secs = std::min(best_secs, watch.seconds());
  }
  return 2.0 * tokens * in * out / best_secs;
}

double step_floor_secs(const flux2::TransformerConfig& config, int text, int image,
                       mx::Dtype dtype) {
  BareStep step(config, text, image, dtype);
  step();  // warms up
  const Stopwatch watch;
  int rounds = 0;
  do {
    step();
    ++rounds;
  } while (watch.seconds() < kFloorSecs);
  return watch.seconds() / rounds;
}

}  // namespace klein
