// What stands between the products: norms, rotations, gates. All of it is bound by memory, so each
// kernel reads and writes every number once, sixteen bytes a thread. Roundings are those of the
// portable versions.
#include "klein/ops/cuda/kernels/lanes.cuh"

// LayerNorm without weights, then (1 + scale) x + shift. A block is a row of 8 numbers a thread;
// lanes beyond the row take part in the sums with zeros.
extern "C" __global__ void modulated_layer_norm_bf16(Rows<const bf16> x, Rows<const bf16> scale,
                                                     Rows<const bf16> shift, int channels,
                                                     float eps, bf16* out) {
  __shared__ float scratch[32];
  const int row = blockIdx.x, c = threadIdx.x * kLanes;
  const bool inside = c < channels;
  float v[kLanes] = {}, factor[kLanes] = {}, offset[kLanes] = {};
  if (inside) {
    load(x.row(row) + c, v);
    load(scale.data + x.batch(row) * scale.batch_stride + c, factor);
    load(shift.data + x.batch(row) * shift.batch_stride + c, offset);
  }
  float sum = 0.0f, square = 0.0f;
  for (float a : v) sum += a;
  const float mean = reduce_block(sum, Add{}, 0.0f, scratch) / channels;
  for (float a : v) square += inside ? (a - mean) * (a - mean) : 0.0f;
  const float inverse = rsqrtf(reduce_block(square, Add{}, 0.0f, scratch) / channels + eps);
  for (int i = 0; i < kLanes; ++i) {
    const float normed = rounded((v[i] - mean) * inverse);
    v[i] = rounded(normed * rounded(1.0f + factor[i])) + offset[i];
  }
  if (inside) store(out + (long long)row * channels + c, v);
}

constexpr int kNormRows = 4;  // of a block of modulated_layer_norm_rows

// Over the kWarps warps of a row; `scratch` is the row's own, and is not used again.
template <int kWarps, typename Op>
__device__ inline float reduce_row(float v, Op op, float* scratch) {
  v = reduce_lanes(v, op);
  const int warp = threadIdx.x / 32 % kWarps;
  if (threadIdx.x % 32 == 0) scratch[warp] = v;
  __syncthreads();
  v = scratch[0];
  for (int i = 1; i < kWarps; ++i) v = op(v, scratch[i]);
  return v;
}

// The same where a row is 1024 * kWarps numbers, 32 a thread. The rows of a block belong to one
// picture, whose factors and offsets they share. Grid: (rows of a picture, pictures).
template <int kWarps, bool kFp8>
__device__ void modulated_layer_norm_rows(Rows<const bf16> x, Rows<const bf16> scale,
                                          Rows<const bf16> shift, float eps, bf16* out,
                                          unsigned char* out8, float* out_scales) {
  constexpr int kVectors = 4, kThreads = 32 * kWarps, channels = kThreads * kVectors * kLanes;
  __shared__ uint4 factors[channels / kLanes], offsets[channels / kLanes];
  __shared__ float scratch[3][kNormRows][kWarps];
  const int of_block = threadIdx.x / kThreads, thread = threadIdx.x % kThreads;
  const int place = blockIdx.x * kNormRows + of_block, picture = blockIdx.y;
  const bool inside = place < x.length;
  const int row = picture * x.length + (inside ? place : 0);
  const bf16* from = x.row(row) + thread * kLanes;
  uint4 raw[kVectors];
#pragma unroll
  for (int k = 0; k < kVectors; ++k)
    raw[k] = *reinterpret_cast<const uint4*>(from + k * kThreads * kLanes);
  float v[kLanes];
  const bf16* scales = scale.data + picture * scale.batch_stride;
  const bf16* shifts = shift.data + picture * shift.batch_stride;
  for (int i = threadIdx.x; i < channels / kLanes; i += blockDim.x) {
    load(scales + i * kLanes, v);
    for (float& a : v) a += 1.0f;
    factors[i] = packed(v);
    offsets[i] = *reinterpret_cast<const uint4*>(shifts + i * kLanes);
  }
  float sum = 0.0f, square = 0.0f;
#pragma unroll
  for (int k = 0; k < kVectors; ++k) {
    unpack(raw[k], v);
    for (float a : v) sum += a;
  }
  const float mean = reduce_row<kWarps>(sum, Add{}, scratch[0][of_block]) / channels;
#pragma unroll
  for (int k = 0; k < kVectors; ++k) {
    unpack(raw[k], v);
    for (float a : v) square += (a - mean) * (a - mean);
  }
  const float variance = reduce_row<kWarps>(square, Add{}, scratch[1][of_block]) / channels;
  const float inverse = rsqrtf(variance + eps);
  bf162 largest = __float2bfloat162_rn(0.0f);
#pragma unroll
  for (int k = 0; k < kVectors; ++k) {
    uint4 factor = factors[thread + k * kThreads], offset = offsets[thread + k * kThreads];
    unpack(raw[k], v);
    for (float& a : v) a = (a - mean) * inverse;
    raw[k] = packed(v);
    auto* x = pairs_of(raw[k]);
#pragma unroll
    for (int i = 0; i < kLanes / 2; ++i) {
      x[i] = __hadd2(__hmul2(x[i], pairs_of(factor)[i]), pairs_of(offset)[i]);
      largest = __hmax2(largest, __habs2(x[i]));
    }
  }
  const long long to = (long long)row * channels + thread * kLanes;
  if constexpr (kFp8) {
    const float2 both = __bfloat1622float2(largest);
    const float top = fmaxf(
        reduce_row<kWarps>(fmaxf(both.x, both.y), Max{}, scratch[2][of_block]), 1e-12f);
    if (!inside) return;
    if (thread == 0) out_scales[row] = top / 448.0f;
#pragma unroll
    for (int k = 0; k < kVectors; ++k) {
      unpack(raw[k], v);
      store_fp8(out8 + to + k * kThreads * kLanes, v, 448.0f / top);
    }
  } else if (inside) {
#pragma unroll
    for (int k = 0; k < kVectors; ++k)
      *reinterpret_cast<uint4*>(out + to + k * kThreads * kLanes) = raw[k];
  }
}

#define MODULATED_LAYER_NORM(channels)                                                              \
  extern "C" __global__ void __launch_bounds__(channels / 8) modulated_layer_norm_##channels##_bf16( \
      Rows<const bf16> x, Rows<const bf16> scale, Rows<const bf16> shift, float eps, bf16* out) {   \
    modulated_layer_norm_rows<channels / 1024, false>(x, scale, shift, eps, out, nullptr, nullptr); \
  }                                                                                                 \
  extern "C" __global__ void __launch_bounds__(channels / 8) modulated_layer_norm_##channels##_fp8( \
      Rows<const bf16> x, Rows<const bf16> scale, Rows<const bf16> shift, float eps,                \
      unsigned char* out, float* scales) {                                                          \
    modulated_layer_norm_rows<channels / 1024, true>(x, scale, shift, eps, nullptr, out, scales);   \
  }
MODULATED_LAYER_NORM(3072)  // Klein 4B
MODULATED_LAYER_NORM(4096)  // Klein 9B

// Rows of `left` numbers, then silu(gate) * up of `channels` numbers, to e4m3 with a scale each.
// What a thread reads stays in its registers: up to 3 times 8 numbers.
extern "C" __global__ void __launch_bounds__(1024)
    join_swiglu_fp8(Rows<const bf16> left_rows, int left, Rows<const bf16> gate,
                    Rows<const bf16> up, int channels, unsigned char* out, float* scales) {
  __shared__ float scratch[32];
  constexpr int kMost = 3;
  const int row = blockIdx.x, step = blockDim.x * kLanes, width = left + channels;
  const bf16* left_row = left_rows.row(row);
  const bf16* gate_row = gate.row(row) - left;
  const bf16* up_row = up.row(row) - left;
  // All loads are under way before the first number is used.
  uint4 raw[kMost], other[kMost];
#pragma unroll
  for (int k = 0; k < kMost; ++k) {
    const int c = threadIdx.x * kLanes + k * step;
    if (c < width) raw[k] = *reinterpret_cast<const uint4*>((c < left ? left_row : gate_row) + c);
    if (c >= left && c < width) other[k] = *reinterpret_cast<const uint4*>(up_row + c);
  }
  bf162 largest = __float2bfloat162_rn(0.0f);
#pragma unroll
  for (int k = 0; k < kMost; ++k) {
    const int c = threadIdx.x * kLanes + k * step;
    if (c >= width) continue;
    bf162 *x = pairs_of(raw[k]), *u = pairs_of(other[k]);
#pragma unroll
    for (int i = 0; i < kLanes / 2; ++i) {
      if (c >= left) x[i] = __hmul2(silu(__bfloat1622float2(x[i])), u[i]);
      largest = __hmax2(largest, __habs2(x[i]));
    }
  }
  const float2 both = __bfloat1622float2(largest);
  const float top =
      fmaxf(reduce_block(fmaxf(both.x, both.y), Max{}, 0.0f, scratch), 1e-12f);
  if (threadIdx.x == 0) scales[row] = top / 448.0f;
  const float factor = 448.0f / top;
#pragma unroll
  for (int k = 0; k < kMost; ++k) {
    const int c = threadIdx.x * kLanes + k * step;
    if (c >= width) continue;
    float v[kLanes];
    unpack(raw[k], v);
    store_fp8(out + (long long)row * width + c, v, factor);
  }
}

// e4m3 with a scale for each row to bfloat16.
extern "C" __global__ void unpack_fp8(const unsigned char* codes, const float* scales, int columns,
                                      long long count, bf16* out) {
  const long long index = ((long long)blockIdx.x * blockDim.x + threadIdx.x) * kLanes;
  if (index >= count) return;
  const float scale = scales[index / columns];
  float v[kLanes];
  const uint2 raw = *reinterpret_cast<const uint2*>(codes + index);
  const auto* code = reinterpret_cast<const __nv_fp8_e4m3*>(&raw);
  for (int i = 0; i < kLanes; ++i) v[i] = static_cast<float>(code[i]) * scale;
  store(out + index, v);
}

// x / rms(x) rounded, times the weight, rounded. A block is a row.
extern "C" __global__ void rms_norm_rounded_twice_bf16(Rows<const bf16> x, const bf16* weight,
                                                       int channels, float eps, bf16* out) {
  __shared__ float scratch[32];
  const int row = blockIdx.x, c = threadIdx.x * kLanes;
  const bool inside = c < channels;
  float v[kLanes] = {}, w[kLanes] = {};
  if (inside) {
    load(x.row(row) + c, v);
    load(weight + c, w);
  }
  float square = 0.0f;
  for (float a : v) square += a * a;
  const float inverse = rsqrtf(reduce_block(square, Add{}, 0.0f, scratch) / channels + eps);
  for (int i = 0; i < kLanes; ++i) v[i] = rounded(v[i] * inverse) * w[i];
  if (inside) store(out + (long long)row * channels + c, v);
}

// The norm of one head of `8 * width` numbers, spread over `width` neighbouring lanes.
__device__ inline void norm_head(float (&v)[kLanes], const bf16* weight, int d, int width,
                                 float eps, bool rounds_twice) {
  float w[kLanes];
  load(weight + d, w);
  float square = 0.0f;
  for (float a : v) square += a * a;
  const float inverse = rsqrtf(reduce_lanes(square, Add{}, width) / (width * kLanes) + eps);
  for (int i = 0; i < kLanes; ++i) {
    const float unit = v[i] * inverse;
    v[i] = rounded((rounds_twice ? rounded(unit) : unit) * w[i]);
  }
}

// Which head of which token a group of `width` lanes works on.
struct HeadPlace {
  int token, head, d;
  bool inside;

  __device__ HeadPlace(int tokens, int heads, int width) {
    const int group = (blockIdx.x * blockDim.x + threadIdx.x) / width;
    inside = group < tokens * heads;
    token = inside ? group / heads : 0;
    head = inside ? group % heads : 0;
    d = threadIdx.x % width * kLanes;
  }
};

// Neighbouring pairs turn by the angles of their token: four of them, from place d of a head of `dim`
// numbers on.
struct Turn {
  float cosines[4], sines[4];

  __device__ Turn(const float* all_cosines, const float* all_sines, int place, int dim, int d) {
    const long long at = (long long)place * (dim / 2) + d / 2;
    load(all_cosines + at, cosines);
    load(all_sines + at, sines);
  }

  __device__ void operator()(float (&v)[kLanes]) const {
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      const float even = v[2 * i], odd = v[2 * i + 1];
      v[2 * i] = even * cosines[i] - odd * sines[i];
      v[2 * i + 1] = odd * cosines[i] + even * sines[i];
    }
  }
};

// RMS norm of every head, then the turn. In the result the tokens stand from `first` on in sequences
// of `total`, so that two streams can share it.
extern "C" __global__ void rms_norm_rope_interleaved_bf16(Rows<const bf16> x, const bf16* weight,
                                                          const float* cosines, const float* sines,
                                                          int tokens, int heads, int width,
                                                          float eps, bf16* out, int first,
                                                          int total) {
  const HeadPlace at(tokens, heads, width);
  const int dim = width * kLanes;
  float v[kLanes];
  load(x.row(at.token) + at.head * dim + at.d, v);
  const int place = at.token % x.length;
  const Turn turn(cosines, sines, place, dim, at.d);
  norm_head(v, weight, at.d, width, eps, false);
  turn(v);
  const long long row = (long long)(at.token / x.length) * total + first + place;
  if (at.inside) store(out + (row * heads + at.head) * dim + at.d, v);
}

// The same for queries and keys of the same tokens, which turn alike: angles are read once.
extern "C" __global__ void rms_norm_rope_pair_bf16(Rows<const bf16> q, Rows<const bf16> k,
                                                   const bf16* q_weight, const bf16* k_weight,
                                                   const float* cosines, const float* sines,
                                                   int tokens, int heads, int width, float q_eps,
                                                   float k_eps, bf16* q_out, bf16* k_out,
                                                   int first, int total) {
  const HeadPlace at(tokens, heads, width);
  const int dim = width * kLanes, column = at.head * dim + at.d;
  float v[kLanes], w[kLanes];
  load(q.row(at.token) + column, v);
  load(k.row(at.token) + column, w);
  const int place = at.token % q.length;
  const Turn turn(cosines, sines, place, dim, at.d);
  norm_head(v, q_weight, at.d, width, q_eps, false);
  norm_head(w, k_weight, at.d, width, k_eps, false);
  turn(v);
  turn(w);
  const long long row = (long long)(at.token / q.length) * total + first + place;
  if (!at.inside) return;
  store(q_out + row * heads * dim + column, v);
  store(k_out + row * heads * dim + column, w);
}

// The same with the pairs (j, j + D/2), and roundings as transformers has them. Tables are bf16.
extern "C" __global__ void rms_norm_rope_half_bf16(Rows<const bf16> x, const bf16* weight,
                                                   const bf16* cosines, const bf16* sines,
                                                   int tokens, int heads, int width, float eps,
                                                   bf16* out) {
  const HeadPlace at(tokens, heads, width);
  const int dim = width * kLanes, half = dim / 2;
  float v[kLanes], other[kLanes], c[kLanes], s[kLanes];
  load(x.row(at.token) + at.head * dim + at.d, v);
  norm_head(v, weight, at.d, width, eps, true);
  for (int i = 0; i < kLanes; ++i) other[i] = __shfl_xor_sync(0xffffffffu, v[i], width / 2);

  const long long table = (long long)(at.token % x.length) * half + at.d % half;
  load(cosines + table, c);
  load(sines + table, s);
  const float sign = at.d < half ? -1.0f : 1.0f;
  for (int i = 0; i < kLanes; ++i)
    v[i] = rounded(v[i] * c[i]) + sign * rounded(other[i] * s[i]);
  if (at.inside) store(out + ((long long)at.token * heads + at.head) * dim + at.d, v);
}

// silu(gate) * up, eight numbers a thread.
extern "C" __global__ void swiglu_bf16(Rows<const bf16> gate, Rows<const bf16> up, int rows,
                                       int channels, bf16* out) {
  const long long index = (long long)blockIdx.x * blockDim.x + threadIdx.x;
  const int per_row = channels / kLanes;
  if (index >= (long long)rows * per_row) return;
  const int row = index / per_row, c = index % per_row * kLanes;
  float g[kLanes], u[kLanes];
  load(gate.row(row) + c, g);
  load(up.row(row) + c, u);
  for (int i = 0; i < kLanes; ++i) g[i] = silu(g[i]) * u[i];
  store(out + (long long)row * channels + c, g);
}

// Rows of `left` numbers, then silu(gate) * up.
extern "C" __global__ void joined_swiglu_bf16(Rows<const bf16> left_rows, int left,
                                              Rows<const bf16> gate, Rows<const bf16> up, int rows,
                                              int channels, bf16* out) {
  const long long index = (long long)blockIdx.x * blockDim.x + threadIdx.x;
  const int width = left + channels, per_row = width / kLanes;
  if (index >= (long long)rows * per_row) return;
  const int row = index / per_row, c = index % per_row * kLanes;
  float g[kLanes], u[kLanes];
  if (c < left) {
    load(left_rows.row(row) + c, g);
  } else {
    load(gate.row(row) + c - left, g);
    load(up.row(row) + c - left, u);
    for (int i = 0; i < kLanes; ++i) g[i] = silu(g[i]) * u[i];
  }
  store(out + (long long)row * width + c, g);
}

// Rows of a table, sixteen bytes a thread.
extern "C" __global__ void take_rows_16(const uint4* table, const int* ids, int lanes,
                                        long long count, uint4* out) {
  const long long index = (long long)blockIdx.x * blockDim.x + threadIdx.x;
  if (index >= count) return;
  out[index] = table[(long long)ids[index / lanes] * lanes + index % lanes];
}

// x + gate * y with a gate for each picture of a batch.
extern "C" __global__ void add_gated_bf16(Rows<const bf16> x, Rows<const bf16> gate,
                                          Rows<const bf16> y, int rows, int channels, bf16* out) {
  const long long index = (long long)blockIdx.x * blockDim.x + threadIdx.x;
  const int per_row = channels / kLanes;
  if (index >= (long long)rows * per_row) return;
  const int row = index / per_row, c = index % per_row * kLanes;
  float a[kLanes], b[kLanes], g[kLanes];
  load(x.row(row) + c, a);
  load(y.row(row) + c, b);
  load(gate.data + x.batch(row) * gate.batch_stride + c, g);
  for (int i = 0; i < kLanes; ++i) a[i] += rounded(g[i] * b[i]);
  store(out + (long long)row * channels + c, a);
}

// Any strides into row order, for inputs that lie as no other kernel reads them.
extern "C" __global__ void copy_strided_16(const unsigned short* x, int4 shape, longlong4 strides,
                                           long long count, unsigned short* out) {
  const long long index = (long long)blockIdx.x * blockDim.x + threadIdx.x;
  if (index >= count) return;
  long long rest = index;
  const long long d = rest % shape.w;
  rest /= shape.w;
  const long long c = rest % shape.z;
  rest /= shape.z;
  const long long b = rest % shape.y, a = rest / shape.y;
  out[index] = x[a * strides.x + b * strides.y + c * strides.z + d * strides.w];
}
