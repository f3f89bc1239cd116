// Eight bfloat16 numbers at a time, as float32 in registers; sums over warps and blocks.
#pragma once

#include <cuda_bf16.h>
#include <cuda_fp8.h>

using bf16 = __nv_bfloat16;
using bf162 = __nv_bfloat162;  // products and sums of two at a time round once, as float32 would

constexpr int kLanes = 8;  // numbers in 16 bytes

__device__ inline void unpack(const uint4& raw, float (&v)[kLanes]) {
  const auto* pairs = reinterpret_cast<const __nv_bfloat162*>(&raw);
#pragma unroll
  for (int i = 0; i < kLanes / 2; ++i) {
    const float2 pair = __bfloat1622float2(pairs[i]);
    v[2 * i] = pair.x;
    v[2 * i + 1] = pair.y;
  }
}

__device__ inline bf162* pairs_of(uint4& raw) {
  return reinterpret_cast<bf162*>(&raw);
}

__device__ inline uint4 packed(const float (&v)[kLanes]) {
  uint4 raw;
  auto* pairs = reinterpret_cast<__nv_bfloat162*>(&raw);
#pragma unroll
  for (int i = 0; i < kLanes / 2; ++i) pairs[i] = __floats2bfloat162_rn(v[2 * i], v[2 * i + 1]);
  return raw;
}

// `p` lies on a multiple of 16 bytes.
__device__ inline void load(const bf16* p, float (&v)[kLanes]) {
  unpack(*reinterpret_cast<const uint4*>(p), v);
}

__device__ inline void store(bf16* p, const float (&v)[kLanes]) {
  *reinterpret_cast<uint4*>(p) = packed(v);
}

__device__ inline void load(const float* p, float (&v)[4]) {
  const float4 raw = *reinterpret_cast<const float4*>(p);
  v[0] = raw.x, v[1] = raw.y, v[2] = raw.z, v[3] = raw.w;
}

// The value after a trip through bfloat16, where the reference rounds too.
__device__ inline float rounded(float v) {
  return __bfloat162float(__float2bfloat16_rn(v));
}

// v / (1 + exp(-v)). The instructions of the special function unit as they are: what CUDA's functions
// put around them for numbers below 1e-38 takes as many again.
__device__ inline float silu_unrounded(float v) {
  float power, inverse;
  asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(power) : "f"(v * -1.4426950408889634f));
  asm("rcp.approx.ftz.f32 %0, %1;" : "=f"(inverse) : "f"(1.0f + power));
  return v * inverse;
}

__device__ inline float silu(float v) {
  return rounded(silu_unrounded(v));
}

__device__ inline bf162 silu(float2 v) {
  return __floats2bfloat162_rn(silu_unrounded(v.x), silu_unrounded(v.y));
}

struct Add {
  __device__ float operator()(float a, float b) const { return a + b; }
};
struct Max {
  __device__ float operator()(float a, float b) const { return fmaxf(a, b); }
};

// Over groups of `width` neighbouring lanes, a power of two; every lane gets the result.
template <typename Op>
__device__ inline float reduce_lanes(float v, Op op, int width = 32) {
  for (int offset = width / 2; offset > 0; offset /= 2)
    v = op(v, __shfl_xor_sync(0xffffffffu, v, offset));
  return v;
}

// Over all threads of a block, a multiple of 32; every thread gets the result. `scratch` holds 32
// numbers and may be used again by the next call at once.
template <typename Op>
__device__ inline float reduce_block(float v, Op op, float start, float* scratch) {
  v = reduce_lanes(v, op);
  const int lane = threadIdx.x % 32, warps = blockDim.x / 32;
  __syncthreads();
  if (lane == 0) scratch[threadIdx.x / 32] = v;
  __syncthreads();
  return reduce_lanes(lane < warps ? scratch[lane] : start, op);
}

// Eight numbers as e4m3, in the order of memory.
__device__ inline void store_fp8(unsigned char* p, const float (&v)[kLanes], float factor) {
  uint2 raw;
  auto* quads = reinterpret_cast<__nv_fp8x4_e4m3*>(&raw);
#pragma unroll
  for (int i = 0; i < 2; ++i)
    quads[i] = __nv_fp8x4_e4m3(make_float4(v[4 * i] * factor, v[4 * i + 1] * factor,
                                           v[4 * i + 2] * factor, v[4 * i + 3] * factor));
  *reinterpret_cast<uint2*>(p) = raw;
}

// Rows of a [batch, length, n] array that may be columns of a wider one.
template <typename T>
struct Rows {
  T* data;
  long long batch_stride, row_stride;
  int length;

  __device__ T* row(int index) const {
    return data + (index / length) * batch_stride + (index % length) * row_stride;
  }
  __device__ int batch(int index) const { return index / length; }
};
