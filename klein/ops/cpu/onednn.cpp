#include "klein/ops/cpu/onednn.h"

#include <list>
#include <map>
#include <memory>
#include <mutex>
#include <unordered_map>
#include <utility>

#include <dnnl.hpp>
#include <fmt/format.h>

#include "klein/core/error.h"

namespace klein::ops::native {
namespace {

using dnnl::memory;
using Tag = memory::format_tag;

dnnl::engine& engine() {
  static dnnl::engine cpu(dnnl::engine::kind::cpu, 0);
  return cpu;
}

dnnl::stream& stream() {
  static dnnl::stream calls(engine());
  return calls;
}

memory::data_type type_of(NumberKind kind) {
  return kind == NumberKind::bf16 ? memory::data_type::bf16 : memory::data_type::f32;
}

memory wrap(const memory::desc& desc, const void* data) {
  return memory(desc, engine(), const_cast<void*>(data));  // oneDNN has no read-only memory
}

/// The plans used last: making one costs as much as a small product.
template <typename Sizes, typename Plan>
class PlanCache {
 public:
  template <typename Make>
  std::shared_ptr<const Plan> get(const Sizes& sizes, const Make& make) {
    const std::lock_guard lock(mutex_);
    if (const auto found = places_.find(sizes); found != places_.end()) {
      plans_.splice(plans_.begin(), plans_, found->second);
      return plans_.front().second;
    }
    plans_.emplace_front(sizes, std::make_shared<const Plan>(make(sizes)));
    places_[sizes] = plans_.begin();
    if (plans_.size() > kMostPlans) {
      places_.erase(plans_.back().first);
      plans_.pop_back();
    }
    return plans_.front().second;
  }

 private:
  static constexpr std::size_t kMostPlans = 128;
  using Entry = std::pair<Sizes, std::shared_ptr<const Plan>>;

  std::mutex mutex_;
  std::list<Entry> plans_;  // the last used first
  std::map<Sizes, typename std::list<Entry>::iterator> places_;
};

struct MatmulPlan {
  memory::desc x, w, bias, y;
  dnnl::matmul primitive;
};

MatmulPlan make_matmul(const MatmulSizes& s) {
  const auto type = type_of(s.kind);
  MatmulPlan plan;
  plan.x = memory::desc({s.m, s.k}, type, Tag::ab);
  plan.w = memory::desc({s.k, s.n}, type, Tag::ba);  // [n, k] as stored, no repacking
  plan.y = memory::desc({s.m, s.n}, type, memory::dims{s.y_stride, 1});
  if (s.bias) plan.bias = memory::desc({1, s.n}, memory::data_type::f32, Tag::ab);
#if DNNL_VERSION_MAJOR >= 3
  plan.primitive = dnnl::matmul(
      s.bias ? dnnl::matmul::primitive_desc(engine(), plan.x, plan.w, plan.bias, plan.y)
             : dnnl::matmul::primitive_desc(engine(), plan.x, plan.w, plan.y));
#else
  const auto desc = s.bias ? dnnl::matmul::desc(plan.x, plan.w, plan.bias, plan.y)
                           : dnnl::matmul::desc(plan.x, plan.w, plan.y);
  plan.primitive = dnnl::matmul(dnnl::matmul::primitive_desc(desc, engine()));
#endif
  return plan;
}

struct ConvolutionPlan {
  memory::desc x, w, packed, bias, y, scratch;
  dnnl::convolution_forward primitive;
  dnnl::reorder pack;
};

ConvolutionPlan make_convolution(const ConvolutionSizes& s) {
  const auto type = type_of(s.kind);
  ConvolutionPlan plan;
  plan.x = memory::desc({s.batch, s.channels, s.height, s.width}, type, Tag::nhwc);
  const memory::dims kernel = {s.filters, s.channels, s.kernel_height, s.kernel_width};
  plan.w = memory::desc(kernel, type, Tag::ohwi);
  plan.y = memory::desc({s.batch, s.filters, s.out_height(), s.out_width()}, type, Tag::nhwc);
  const memory::desc any(kernel, type, Tag::any);
  if (s.bias) plan.bias = memory::desc({s.filters}, memory::data_type::f32, Tag::x);
  const memory::dims strides = {s.stride, s.stride}, before = {s.top, s.left},
                     after = {s.bottom, s.right};
  constexpr auto kKind = dnnl::prop_kind::forward_inference;
  constexpr auto kWay = dnnl::algorithm::convolution_direct;
  using Forward = dnnl::convolution_forward;
  // Else every plan that is kept would keep its own for good: megabytes for each thread.
  dnnl::primitive_attr own_scratch;
  own_scratch.set_scratchpad_mode(dnnl::scratchpad_mode::user);
#if DNNL_VERSION_MAJOR >= 3
  const auto desc = s.bias ? Forward::primitive_desc(engine(), kKind, kWay, plan.x, any, plan.bias,
                                                     plan.y, strides, before, after, own_scratch)
                           : Forward::primitive_desc(engine(), kKind, kWay, plan.x, any, plan.y,
                                                     strides, before, after, own_scratch);
#else
  const auto asked =
      s.bias ? Forward::desc(kKind, kWay, plan.x, any, plan.bias, plan.y, strides, before, after)
             : Forward::desc(kKind, kWay, plan.x, any, plan.y, strides, before, after);
  const Forward::primitive_desc desc(asked, own_scratch, engine());
#endif
  plan.packed = desc.weights_desc();
  plan.scratch = desc.scratchpad_desc();
  plan.primitive = Forward(desc);
  if (plan.packed != plan.w)
    plan.pack =
        dnnl::reorder(dnnl::reorder::primitive_desc(engine(), plan.w, engine(), plan.packed));
  return plan;
}

/// oneDNN's own exception does not leave this file.
template <typename Call>
void guarded(const char* what, const Call& call) {
  try {
    call();
  } catch (const dnnl::error& error) {
    throw Error(ErrorKind::internal, fmt::format("oneDNN refused a {}: {}", what, error.what()));
  }
}

}  // namespace

bool has_fast_bf16() {
#ifdef __x86_64__
  // The environment can hold oneDNN below what the processor could do (ONEDNN_MAX_CPU_ISA).
  static const bool fast = [] {
    const auto isa = static_cast<unsigned>(dnnl::get_effective_cpu_isa());
    const auto needed = static_cast<unsigned>(dnnl::cpu_isa::avx512_core_bf16);
    return __builtin_cpu_supports("avx512bf16") && (isa & needed) == needed;
  }();
  return fast;
#else
  return false;
#endif
}

void matmul(const MatmulSizes& sizes, const void* x, const void* w, const float* bias, void* y) {
  static PlanCache<MatmulSizes, MatmulPlan> cache;
  guarded("matrix product", [&] {
    const auto plan = cache.get(sizes, make_matmul);
    std::unordered_map<int, memory> args = {{DNNL_ARG_SRC, wrap(plan->x, x)},
                                            {DNNL_ARG_WEIGHTS, wrap(plan->w, w)},
                                            {DNNL_ARG_DST, wrap(plan->y, y)}};
    if (bias) args.emplace(DNNL_ARG_BIAS, wrap(plan->bias, bias));
    plan->primitive.execute(stream(), args);
    stream().wait();
  });
}

void convolution(const ConvolutionSizes& sizes, const void* x, const void* w, const float* bias,
                 void* y) {
  static PlanCache<ConvolutionSizes, ConvolutionPlan> cache;
  guarded("convolution", [&] {
    const auto plan = cache.get(sizes, make_convolution);
    auto weights = wrap(plan->w, w);
    if (plan->pack) {
      memory packed(plan->packed, engine());
      plan->pack.execute(stream(), weights, packed);
      weights = packed;
    }
    std::unordered_map<int, memory> args = {{DNNL_ARG_SRC, wrap(plan->x, x)},
                                            {DNNL_ARG_WEIGHTS, weights},
                                            {DNNL_ARG_DST, wrap(plan->y, y)},
                                            {DNNL_ARG_SCRATCHPAD, memory(plan->scratch, engine())}};
    if (bias) args.emplace(DNNL_ARG_BIAS, wrap(plan->bias, bias));
    plan->primitive.execute(stream(), args);
    stream().wait();
  });
}

}  // namespace klein::ops::native
