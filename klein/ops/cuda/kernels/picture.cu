// Group norm, and pixels doubled, for pictures with channels last.
#include "klein/ops/cuda/kernels/lanes.cuh"

// A set of numbers as its size, mean and sum of squared differences from it: two sets merge without
// the loss of digits that a sum of squares has.
struct Moments {
  float count, mean, squares;

  __device__ void merge(const Moments& other) {
    const float all = count + other.count;
    if (all == 0.0f) return;
    const float delta = other.mean - mean, share = __fdividef(other.count, all);
    mean += delta * share;
    squares += other.squares + delta * delta * count * share;
    count = all;
  }
};

__device__ inline Moments shuffled(const Moments& m, int offset) {
  return {__shfl_xor_sync(0xffffffffu, m.count, offset),
          __shfl_xor_sync(0xffffffffu, m.mean, offset),
          __shfl_xor_sync(0xffffffffu, m.squares, offset)};
}

constexpr int kGroupThreads = 256;

// Adds what a convolution's output still lacks, rounding as its own sum would. Nothing where `bias`
// is null.
__device__ inline void add_bias(float (&v)[kLanes], const bf16* bias, const float (&b)[kLanes]) {
  if (bias == nullptr) return;
  for (int i = 0; i < kLanes; ++i) v[i] = rounded(v[i] + b[i]);
}

// Moments of every group over the pixels of a block. A thread keeps to 8 channels, which belong to
// 1, or to 2 groups of 4 channels (`parts`); wider groups are merged by the threads of a group.
// Grid: (parts of the picture, pictures). Out: [pictures, groups, parts of the picture] Moments.
extern "C" __global__ void __launch_bounds__(kGroupThreads, 4)
    group_moments_part_bf16(const bf16* x, const bf16* bias,
                                                   long long pixels, int channels, int groups,
                                                   Moments* out) {
  __shared__ Moments shared[kGroupThreads * 2];
  const int across = channels / kLanes;  // threads side by side on one pixel
  const int down = blockDim.x / across;
  const int c = threadIdx.x % across * kLanes, line = threadIdx.x / across;
  const int per_group = channels / groups;
  const int parts = per_group >= kLanes ? 1 : kLanes / per_group;
  const bf16* picture = x + (long long)blockIdx.y * pixels * channels;
  const long long share = (pixels + gridDim.x - 1) / gridDim.x;
  const long long begin = blockIdx.x * share, end = min(begin + share, pixels);

  // Numbers relative to the thread's first pixel, so that sums of squares keep their digits.
  float start[kLanes] = {}, sum[kLanes] = {}, square[kLanes] = {}, b[kLanes] = {};
  const long long first = begin + line;
  const bool inside = line < down && first < end;
  const int count = inside ? (int)((end - first + down - 1) / down) : 0;
  if (bias != nullptr) load(bias + c, b);
  if (inside) {
    load(picture + first * channels + c, start);
    add_bias(start, bias, b);
    constexpr int kAtOnce = 3;  // pixels whose loads are under way together
    for (long long p = first; p < end; p += kAtOnce * down) {
      uint4 raw[kAtOnce];
#pragma unroll
      for (int k = 0; k < kAtOnce; ++k)
        if (p + k * down < end)
          raw[k] = *reinterpret_cast<const uint4*>(picture + (p + k * down) * channels + c);
#pragma unroll
      for (int k = 0; k < kAtOnce; ++k) {
        if (p + k * down >= end) break;
        float v[kLanes];
        unpack(raw[k], v);
        add_bias(v, bias, b);
        for (int i = 0; i < kLanes; ++i) {
          const float d = v[i] - start[i];
          sum[i] += d;
          square[i] += d * d;
        }
      }
    }
  }
  Moments mine[2] = {};
#pragma unroll
  for (int i = 0; i < kLanes; ++i) {
    if (count == 0) break;
    const float mean = __fdividef(sum[i], (float)count);
    const Moments one{(float)count, start[i] + mean, fmaxf(square[i] - mean * sum[i], 0.0f)};
    if (parts == 2 && i >= kLanes / 2)
      mine[1].merge(one);
    else
      mine[0].merge(one);
  }
  shared[threadIdx.x * 2] = mine[0];
  shared[threadIdx.x * 2 + 1] = mine[1];
  __syncthreads();
  // A warp's lanes divide the threads of one group among them.
  const int lane = threadIdx.x % 32, warps = blockDim.x / 32;
  const int width = per_group >= kLanes ? per_group / kLanes : 1;  // threads of a group on a pixel
  for (int g = threadIdx.x / 32; g < groups; g += warps) {
    Moments all = {};
    const int first = parts == 2 ? g / 2 : g * width, which = parts == 2 ? g % 2 : 0;
    for (int k = lane; k < width * down; k += 32)
      all.merge(shared[((k / width) * across + first + k % width) * 2 + which]);
    for (int offset = 16; offset > 0; offset /= 2) all.merge(shuffled(all, offset));
    if (lane == 0) out[((long long)blockIdx.y * groups + g) * gridDim.x + blockIdx.x] = all;
  }
}

// Mean and variance of every group of a picture from those of its parts. A block is a group.
extern "C" __global__ void group_moments_merge(const Moments* parts, int count, int groups,
                                               float* out) {
  __shared__ Moments of_warps[32];
  const int group = blockIdx.x, picture = blockIdx.y, lane = threadIdx.x % 32;
  Moments all = {};
  for (int k = threadIdx.x; k < count; k += blockDim.x)
    all.merge(parts[((long long)picture * groups + group) * count + k]);
  for (int offset = 16; offset > 0; offset /= 2) all.merge(shuffled(all, offset));
  if (lane == 0) of_warps[threadIdx.x / 32] = all;
  __syncthreads();
  if (threadIdx.x >= 32) return;
  all = lane < blockDim.x / 32 ? of_warps[lane] : Moments{};
  for (int offset = 16; offset > 0; offset /= 2) all.merge(shuffled(all, offset));
  if (lane == 0) {
    float* to = out + ((long long)picture * groups + group) * 2;
    to[0] = all.mean;
    to[1] = all.squares / all.count;
  }
}

// (x - mean) / sqrt(variance + eps) * weight + bias, with SiLU on top where `with_silu`.
// Grid: (parts of the picture, pictures).
extern "C" __global__ void __launch_bounds__(kGroupThreads, 4)
    group_norm_apply_bf16(const bf16* x, const bf16* x_bias, const float* moments,
                          const bf16* weight, const bf16* bias, long long pixels, int channels,
                          int groups, float eps, int with_silu, bf16* out) {
  const int across = channels / kLanes, down = blockDim.x / across;
  const int c = threadIdx.x % across * kLanes, line = threadIdx.x / across;
  if (line >= down) return;
  const int per_group = channels / groups;
  float w[kLanes], b[kLanes], before[kLanes] = {};
  load(weight + c, w);
  load(bias + c, b);
  if (x_bias != nullptr) load(x_bias + c, before);
  for (int i = 0; i < kLanes; ++i) {
    const float* m = moments + ((long long)blockIdx.y * groups + (c + i) / per_group) * 2;
    const float inverse = rsqrtf(m[1] + eps);
    w[i] *= inverse;
    b[i] -= m[0] * w[i];
  }
  const long long offset = (long long)blockIdx.y * pixels * channels + c;
  constexpr int kAtOnce = 4;  // pixels whose loads are under way together
  const long long step = (long long)gridDim.x * down;
  for (long long p = blockIdx.x * (long long)down + line; p < pixels; p += kAtOnce * step) {
    uint4 raw[kAtOnce];
#pragma unroll
    for (int k = 0; k < kAtOnce; ++k)
      if (p + k * step < pixels)
        raw[k] = *reinterpret_cast<const uint4*>(x + offset + (p + k * step) * channels);
#pragma unroll
    for (int k = 0; k < kAtOnce; ++k) {
      if (p + k * step >= pixels) break;
      float v[kLanes];
      unpack(raw[k], v);
      add_bias(v, x_bias, before);
      for (int i = 0; i < kLanes; ++i) v[i] = fmaf(v[i], w[i], b[i]);
      raw[k] = packed(v);
      auto* pairs = pairs_of(raw[k]);
      if (with_silu)
        for (int i = 0; i < kLanes / 2; ++i) pairs[i] = silu(__bfloat1622float2(pairs[i]));
      *reinterpret_cast<uint4*>(out + offset + (p + k * step) * channels) = raw[k];
    }
  }
}

// x + bias, and `other` on top of it where there is one.
extern "C" __global__ void add_bias_bf16(const bf16* x, const bf16* bias, const bf16* other,
                                         int channels, long long count, bf16* out) {
  const long long index = ((long long)blockIdx.x * blockDim.x + threadIdx.x) * kLanes;
  if (index >= count) return;
  float v[kLanes], b[kLanes];
  load(x + index, v);
  load(bias + index % channels, b);
  for (int i = 0; i < kLanes; ++i) v[i] += b[i];
  if (other != nullptr) {
    load(other + index, b);
    for (int i = 0; i < kLanes; ++i) v[i] = rounded(v[i]) + b[i];
  }
  store(out + index, v);
}

// Pixels of about [-1, 1] as levels of 8 bits.
extern "C" __global__ void levels_bf16(const bf16* x, long long count, unsigned char* out) {
  const long long index = ((long long)blockIdx.x * blockDim.x + threadIdx.x) * kLanes;
  if (index >= count) return;
  float v[kLanes];
  load(x + index, v);
  uint2 levels;
  auto* bytes = reinterpret_cast<unsigned char*>(&levels);
  for (int i = 0; i < kLanes; ++i)
    bytes[i] = rintf(__saturatef(rounded(rounded(v[i] * 0.5f) + 0.5f)) * 255.0f);
  *reinterpret_cast<uint2*>(out + index) = levels;
}

// The weights of a 3x3 convolution of a picture enlarged twice as those of four 2x2 convolutions of
// the picture itself, one for each place in a square of the result: the taps that fall on one pixel
// are summed. [O, 3, 3, C] to [2, 2, O, 2, 2, C]: place (y, x), output, tap (y, x).
extern "C" __global__ void doubled_weight_bf16(const bf16* weight, int outputs, int channels,
                                               bf16* out) {
  const long long index = (long long)blockIdx.x * blockDim.x + threadIdx.x;
  if (index >= 16LL * outputs * channels) return;
  const int c = index % channels, tap = index / channels % 4, o = index / channels / 4 % outputs;
  const int place = index / channels / 4 / outputs;
  float sum = 0.0f;
  for (int y = 0; y < 3; ++y)
    for (int x = 0; x < 3; ++x) {
      const int py = place / 2, px = place % 2;
      if ((py + y + 1) / 2 - py == tap / 2 && (px + x + 1) / 2 - px == tap % 2)
        sum += __bfloat162float(weight[(((long long)o * 3 + y) * 3 + x) * channels + c]);
    }
  out[index] = __float2bfloat16(sum);
}

// Every pixel becomes a square of two by two. A thread copies eight channels of one pixel.
extern "C" __global__ void upsample_nearest_2x_16(const uint4* x, int height, int width, int lanes,
                                                  long long count, uint4* out) {
  const long long index = (long long)blockIdx.x * blockDim.x + threadIdx.x;
  if (index >= count) return;
  const long long pixel = index / lanes, row = pixel / width;  // row of all pictures
  const int c = index % lanes, column = pixel % width;
  const uint4 v = x[index];
  uint4* to = out + ((2 * row) * (2LL * width) + 2 * column) * lanes + c;
  to[0] = v;
  to[lanes] = v;
  to[2LL * width * lanes] = v;
  to[2LL * width * lanes + lanes] = v;
}
