#include <cmath>

#include "klein/ops/cpu/kernel.h"
#include "klein/ops/cpu/native.h"
#include "klein/ops/cpu/scalar.h"
#include "klein/ops/portable.h"

namespace klein::ops::native {
namespace {

/// Pixels that are summed in float32 before they join the double sums.
constexpr int kPixels = 8;

/// Adds x and x^2 of `Pixels` pixels to the sums of every channel.
template <int Pixels, typename T>
KLEIN_INLINE void add_pixels(const T* x, std::int64_t channels, double* sums, double* squares) {
#pragma omp simd
  for (std::int64_t c = 0; c < channels; ++c) {
    float sum = 0.0f, square = 0.0f;
#pragma GCC unroll 8
    for (int p = 0; p < Pixels; ++p) {
      const float v = to_float(x[p * channels + c]);
      sum += v;
      square += v * v;
    }
    sums[c] += static_cast<double>(sum);
    squares[c] += static_cast<double>(square);
  }
}

template <typename T>
KLEIN_INLINE void sum_loop(const T* x, std::int64_t pixels, std::int64_t channels, double* sums,
                           double* squares) {
  std::int64_t p = 0;
  for (; p + kPixels <= pixels; p += kPixels)
    add_pixels<kPixels>(x + p * channels, channels, sums, squares);
  for (; p < pixels; ++p) add_pixels<1>(x + p * channels, channels, sums, squares);
}

KLEIN_CLONES void sum_pixels(const float* x, std::int64_t pixels, std::int64_t channels,
                             double* sums, double* squares) {
  sum_loop(x, pixels, channels, sums, squares);
}
KLEIN_CLONES void sum_pixels(const Bf16* x, std::int64_t pixels, std::int64_t channels,
                             double* sums, double* squares) {
  sum_loop(x, pixels, channels, sums, squares);
}

template <bool Silu, typename T>
KLEIN_INLINE void apply_loop(const T* x, const float* factor, const float* offset, T* out,
                             std::int64_t pixels, std::int64_t channels) {
  for (std::int64_t p = 0; p < pixels; ++p, x += channels, out += channels)
#pragma omp simd
    for (std::int64_t c = 0; c < channels; ++c) {
      const float normed = to_float(x[c]) * factor[c] + offset[c];
      out[c] = round_to<T>(Silu ? silu_of(through<T>(normed)) : normed);
    }
}

KLEIN_CLONES void apply(const float* x, const float* factor, const float* offset, float* out,
                        std::int64_t pixels, std::int64_t channels, bool silu) {
  if (silu)
    apply_loop<true>(x, factor, offset, out, pixels, channels);
  else
    apply_loop<false>(x, factor, offset, out, pixels, channels);
}
KLEIN_CLONES void apply(const Bf16* x, const float* factor, const float* offset, Bf16* out,
                        std::int64_t pixels, std::int64_t channels, bool silu) {
  if (silu)
    apply_loop<true>(x, factor, offset, out, pixels, channels);
  else
    apply_loop<false>(x, factor, offset, out, pixels, channels);
}

struct Norm {
  std::int64_t pixels, channels, groups;
  float eps;
  bool silu;
  std::vector<float> weight, bias;
};

struct Moments {
  double mean, variance;
};

/// Of every group of one picture.
template <typename T>
std::vector<Moments> moments_of(const T* x, std::int64_t pixels, std::int64_t channels,
                                std::int64_t groups) {
  // As many parts as threads, whatever the size: the order of the sums must not depend on it.
  const std::int64_t parts = std::min<std::int64_t>(thread_count(), (pixels + 63) / 64);
  std::vector<double> sums(static_cast<std::size_t>(parts * channels * 2), 0.0);
  parallel_tasks(parts, [&](std::int64_t part, int) {
    const auto begin = pixels * part / parts, end = pixels * (part + 1) / parts;
    double* own = sums.data() + part * channels * 2;
    sum_pixels(x + begin * channels, end - begin, channels, own, own + channels);
  });
  for (std::int64_t part = 1; part < parts; ++part)
    for (std::int64_t c = 0; c < channels * 2; ++c)
      sums[static_cast<std::size_t>(c)] += sums[static_cast<std::size_t>(part * channels * 2 + c)];

  const auto width = channels / groups;
  const auto count = static_cast<double>(pixels * width);
  std::vector<Moments> moments;
  for (std::int64_t g = 0; g < groups; ++g) {
    double sum = 0.0, square = 0.0;
    for (auto c = g * width; c < (g + 1) * width; ++c) {
      sum += sums[static_cast<std::size_t>(c)];
      square += sums[static_cast<std::size_t>(channels + c)];
    }
    const double mean = sum / count;
    moments.push_back({mean, std::max(square / count - mean * mean, 0.0)});
  }
  return moments;
}

/// y = x * factor + offset per channel.
void fold(const Norm& norm, const std::vector<Moments>& moments, float* factor, float* offset) {
  const auto width = norm.channels / norm.groups;
  for (std::int64_t c = 0; c < norm.channels; ++c) {
    const auto i = static_cast<std::size_t>(c);
    const auto [mean, variance] = moments[static_cast<std::size_t>(c / width)];
    const double inverse = 1.0 / std::sqrt(variance + static_cast<double>(norm.eps));
    factor[c] = static_cast<float>(inverse * static_cast<double>(norm.weight[i]));
    offset[c] = static_cast<float>(static_cast<double>(norm.bias[i]) -
                                   mean * inverse * static_cast<double>(norm.weight[i]));
  }
}

template <typename T>
void norm_picture(const Norm& norm, const std::vector<Moments>& moments, const T* x, T* out) {
  const auto channels = norm.channels;
  std::vector<float> factor(static_cast<std::size_t>(channels)), offset(factor.size());
  fold(norm, moments, factor.data(), offset.data());
  parallel_ranges(norm.pixels, channels * 2 * std::int64_t{sizeof(T)}, [&](auto begin, auto end) {
    apply(x + begin * channels, factor.data(), offset.data(), out + begin * channels, end - begin,
          channels, norm.silu);
  });
}

std::int64_t pixels_of(const mx::array& x) {
  return std::int64_t{x.shape(1)} * x.shape(2);
}

}  // namespace

mx::array group_norm(const mx::array& x, const mx::array& weight, const mx::array& bias, int groups,
                     float eps, bool silu) {
  const auto body = [groups, eps, silu](const std::vector<mx::array>& in, mx::array& out) {
    const Dense x_data(in[0]);
    const auto& shape = in[0].shape();
    const Norm norm = {pixels_of(in[0]), shape[3],        groups, eps, silu,
                       floats_of(in[1]), floats_of(in[2])};
    const auto size = norm.pixels * norm.channels;
    with_type(out.dtype(), [&](auto type) {
      using T = decltype(type);
      for (int b = 0; b < shape[0]; ++b) {
        const T* picture = x_data.data<T>() + b * size;
        norm_picture(norm, moments_of(picture, norm.pixels, norm.channels, norm.groups), picture,
                     out.data<T>() + b * size);
      }
    });
  };
  const auto twin = [groups, eps, silu](const std::vector<mx::array>& in) {
    return portable::group_norm(in[0], in[1], in[2], groups, eps, silu);
  };
  return cpu_kernel("group_norm", {x, weight, bias}, x.shape(), x.dtype(), body, twin);
}

mx::array group_moments(const mx::array& x, int groups) {
  const auto body = [groups](const std::vector<mx::array>& in, mx::array& out) {
    const Dense x_data(in[0]);
    const std::int64_t pixels = pixels_of(in[0]), channels = in[0].shape(3);
    auto* to = out.data<float>();
    with_type(in[0].dtype(), [&](auto type) {
      using T = decltype(type);
      for (int b = 0; b < in[0].shape(0); ++b)
        for (const auto& [mean, variance] :
             moments_of(x_data.data<T>() + b * pixels * channels, pixels, channels, groups)) {
          *to++ = static_cast<float>(mean);
          *to++ = static_cast<float>(variance);
        }
    });
  };
  const auto twin = [groups](const std::vector<mx::array>& in) {
    return portable::group_moments(in[0], groups);
  };
  return cpu_kernel("group_moments", {x}, {x.shape(0), groups, 2}, mx::float32, body, twin);
}

mx::array group_norm_with(const mx::array& x, const mx::array& moments, const mx::array& weight,
                          const mx::array& bias, float eps, bool silu) {
  const auto body = [eps, silu](const std::vector<mx::array>& in, mx::array& out) {
    const Dense x_data(in[0]);
    const int batch = in[0].shape(0), channels = in[0].shape(3), groups = in[1].shape(1);
    const auto given = floats_of(in[1]);
    const Norm norm = {pixels_of(in[0]), channels,        groups, eps, silu,
                       floats_of(in[2]), floats_of(in[3])};
    const auto size = norm.pixels * norm.channels;
    with_type(out.dtype(), [&](auto type) {
      using T = decltype(type);
      auto from = given.begin();
      for (int b = 0; b < batch; ++b) {
        std::vector<Moments> own;
        for (int g = 0; g < groups; ++g, from += 2) own.push_back({from[0], from[1]});
        norm_picture(norm, own, x_data.data<T>() + b * size, out.data<T>() + b * size);
      }
    });
  };
  const auto twin = [eps, silu](const std::vector<mx::array>& in) {
    return portable::group_norm_with(in[0], in[1], in[2], in[3], eps, silu);
  };
  return cpu_kernel("group_norm_with", {x, moments, weight, bias}, x.shape(), x.dtype(), body,
                    twin);
}

}  // namespace klein::ops::native
