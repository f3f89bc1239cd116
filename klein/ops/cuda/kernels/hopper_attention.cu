// Attention forward for Hopper (sm_90a): softmax(scale * Q K^T) V, bf16 in and out, head_dim 128, float32 scores,
// softmax and accumulation.
//
// One block: a producer warpgroup that fills a ring of K and V stages through TMA, and two consumer warpgroups of 64
// query rows each. A consumer issues the next Q K^T before it works on the softmax of the present one (S in registers,
// P in registers as the A operand of P V), and the consumers take turns at the tensor cores through named barriers.
// The grid is persistent: the tiles that do not fill a whole wave are cut along the keys into equal shares (first),
// the remaining whole waves follow; the last warp to reach a cut tile merges its pieces.

#include "klein/ops/cuda/kernels/hopper.cuh"
#include "klein/ops/cuda/kernels/hopper_attention_params.h"

namespace hopper_attention_detail {

using namespace hopper;

using uint32_t = unsigned int;
using uint64_t = unsigned long long;
using int64_t = long long;

constexpr int kDim = 128;
#define kInfinity __int_as_float(0x7f800000)  // NVRTC has no INFINITY
constexpr int kGroups = 2;  // consumer warpgroups
constexpr int kStages = 2;  // of the K ring and of the V ring
constexpr int kQBytes = 64 * kDim * 2;  // of one warpgroup

// ---------------------------------------------------------------------------------------------- PTX

// As hopper::barrier_wait, with a loop that the compiler sees: it makes less code of it here.
__device__ __forceinline__ void barrier_wait(uint32_t bar, uint32_t phase) {
  uint32_t done;
  do {
    asm volatile(
        "{\n.reg .pred p;\n"
        "mbarrier.try_wait.parity.shared::cta.b64 p, [%1], %2;\n"
        "selp.b32 %0, 1, 0, p;\n}"
        : "=r"(done)
        : "r"(bar), "r"(phase)
        : "memory");
  } while (!done);
}

__device__ __forceinline__ void named_sync(int id, int threads) {
  asm volatile("bar.sync %0, %1;" ::"r"(id), "r"(threads) : "memory");
}
__device__ __forceinline__ void named_arrive(int id, int threads) {
  asm volatile("bar.arrive %0, %1;" ::"r"(id), "r"(threads) : "memory");
}

// Keeps the compiler from moving uses of registers that a wgmma writes across a wait.
template <int kCount>
__device__ __forceinline__ void pin(float (&r)[kCount]) {
#pragma unroll
  for (int i = 0; i < kCount; ++i) asm volatile("" : "+f"(r[i])::"memory");
}

// Shared-memory matrix descriptor, 128-byte swizzle; groups of 8 rows lie 1024 bytes apart. `leading` is the
// distance in bytes between 64-wide column groups and counts for the transposed operand only.
__device__ __forceinline__ uint64_t descriptor(uint32_t address, uint32_t leading) {
  return (uint64_t(1) << 62) | (uint64_t(1024 >> 4) << 32) | (uint64_t(leading >> 4) << 16) |
         ((address & 0x3FFFF) >> 4);
}

// d (64 x 128) += P V: P (64 x 16) in registers, V (16 x 128) in shared memory, transposed on the way.
__device__ __forceinline__ void wgmma_rs(float (&d)[64], const uint32_t* a, uint64_t b) {
  asm volatile("wgmma.mma_async.sync.aligned.m64n128k16.f32.bf16.bf16 {" HOPPER_D64
               "}, {%64,%65,%66,%67}, %68, 1, 1, 1, 1;"
               : HOPPER_F64
               : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "l"(b));
}

__device__ __forceinline__ float exp2_fast(float x) {
  float y;
  asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
  return y;
}

// ---------------------------------------------------------------------------------------------- work

struct Ring {
  int stage = 0;
  uint32_t phase = 0;
  __device__ __forceinline__ void next() {
    if (++stage == kStages) {
      stage = 0;
      phase ^= 1;
    }
  }
};

struct Segment {
  int tile, low, high;  // key blocks [low, high), worked from the highest down
};

// What one block does: its share of the cut tiles [0, rest), then whole tiles.
struct Schedule {
  int blocks;        // key blocks of a tile
  int tiles, rest;   // all tiles; those that are cut
  int units;         // rest * blocks
  int shares;        // among how many blocks
  int at, end;       // this block's share of the units
  int tile, stride;  // next whole tile

  __device__ __forceinline__ Schedule(int tiles_, int blocks_, int block, int grid, bool split) {
    blocks = blocks_;
    tiles = tiles_;
    stride = grid;
    rest = split ? tiles % grid : 0;
    units = rest * blocks;
    shares = min(grid, units);
    at = end = 0;
    if (block < shares) {
      at = first_unit(block);
      end = first_unit(block + 1);
    }
    tile = rest + block;
  }
  __device__ __forceinline__ int first_unit(int block) const {
    return static_cast<int>(static_cast<int64_t>(block) * units / shares);
  }
  // The block whose share holds this unit.
  __device__ __forceinline__ int owner(int unit) const {
    return static_cast<int>((static_cast<int64_t>(unit + 1) * shares - 1) / units);
  }
  __device__ __forceinline__ bool next(Segment& s) {
    if (at < end) {
      s.tile = at / blocks;
      s.low = at - s.tile * blocks;
      s.high = min(blocks, s.low + end - at);
      at += s.high - s.low;
      return true;
    }
    if (tile < tiles) {
      s = {tile, 0, blocks};
      tile += stride;
      return true;
    }
    return false;
  }
};

// ---------------------------------------------------------------------------------------------- softmax
// A thread of a warpgroup holds two rows, 8 apart: of s, elements 4j, 4j+1 belong to the first, 4j+2, 4j+3 to
// the second; the four threads of a quad share a row.

template <int kN>
__device__ __forceinline__ void row_max(const float (&s)[kN / 2], float (&m)[2]) {
  float a0 = s[0], a1 = s[1], b0 = s[2], b1 = s[3];
#pragma unroll
  for (int j = 1; j < kN / 8; ++j) {
    a0 = fmaxf(a0, s[4 * j]);
    a1 = fmaxf(a1, s[4 * j + 1]);
    b0 = fmaxf(b0, s[4 * j + 2]);
    b1 = fmaxf(b1, s[4 * j + 3]);
  }
  m[0] = fmaxf(a0, a1);
  m[1] = fmaxf(b0, b1);
#pragma unroll
  for (int i = 0; i < 2; ++i) {
    m[i] = fmaxf(m[i], __shfl_xor_sync(~0u, m[i], 1));
    m[i] = fmaxf(m[i], __shfl_xor_sync(~0u, m[i], 2));
  }
}

// By how many powers of two a score may exceed the maximum in use before what was summed so far is rescaled.
constexpr float kSlack = 8.0f;

// s becomes exp2((s - m) * scale); sum gets this thread's part of the row sums.
template <bool kCausal, int kN>
__device__ __forceinline__ void exponentials(float (&s)[kN / 2], const float (&m)[2], float scale, float (&sum)[2]) {
  float m0 = m[0] * scale, m1 = m[1] * scale;
  if (kCausal) {  // a row may have seen no key yet
    m0 = m[0] == -kInfinity ? 0 : m0;
    m1 = m[1] == -kInfinity ? 0 : m1;
  }
  float a0 = 0, a1 = 0, b0 = 0, b1 = 0;
#pragma unroll
  for (int j = 0; j < kN / 8; ++j) {
    a0 += s[4 * j] = exp2_fast(fmaf(s[4 * j], scale, -m0));
    a1 += s[4 * j + 1] = exp2_fast(fmaf(s[4 * j + 1], scale, -m0));
    b0 += s[4 * j + 2] = exp2_fast(fmaf(s[4 * j + 2], scale, -m1));
    b1 += s[4 * j + 3] = exp2_fast(fmaf(s[4 * j + 3], scale, -m1));
  }
  sum[0] = a0 + a1;
  sum[1] = b0 + b1;
}

// Four words of each thread of a quad, transposed among the quad.
__device__ __forceinline__ void quad_transpose(uint32_t (&w)[4], int quad) {
  const bool odd = quad & 1, high = quad & 2;
#pragma unroll
  for (int i = 0; i < 4; i += 2) {
    const uint32_t x = __shfl_xor_sync(~0u, odd ? w[i] : w[i + 1], 1);
    if (odd) w[i] = x; else w[i + 1] = x;
  }
#pragma unroll
  for (int i = 0; i < 2; ++i) {
    const uint32_t x = __shfl_xor_sync(~0u, high ? w[i] : w[i + 2], 2);
    if (high) w[i] = x; else w[i + 2] = x;
  }
}

// ---------------------------------------------------------------------------------------------- kernel

// kCausal: a query sees the keys up to its own place, counted from the end; no tile is cut.
// kN: keys of a block.
template <bool kCausal, int kN>
__device__ __forceinline__ void forward(const CUtensorMap& map_q, const CUtensorMap& map_k, const CUtensorMap& map_v,
                                        const HopperAttentionParams& p) {
  constexpr int kKBytes = kN * kDim * 2;
  extern __shared__ unsigned char shared_raw[];
  const uint32_t base = (shared_address(shared_raw) + 1023) & ~1023u;
  const uint32_t q_at = base, k_at = q_at + kGroups * kQBytes, v_at = k_at + kStages * kKBytes;
  const uint32_t bars = v_at + kStages * kKBytes;
  const auto q_full = [&](int g) { return bars + 8 * g; };
  const auto q_empty = [&](int g) { return bars + 8 * (kGroups + g); };
  const auto k_full = [&](int s) { return bars + 8 * (2 * kGroups + s); };
  const auto k_empty = [&](int s) { return bars + 8 * (2 * kGroups + kStages + s); };
  const auto v_full = [&](int s) { return bars + 8 * (2 * kGroups + 2 * kStages + s); };
  const auto v_empty = [&](int s) { return bars + 8 * (2 * kGroups + 3 * kStages + s); };

  const int warp = __shfl_sync(~0u, threadIdx.x / 32, 0);
  const int lane = threadIdx.x % 32;

  if (threadIdx.x == 0) {
    for (int g = 0; g < kGroups; ++g) {
      barrier_init(q_full(g), 1);
      barrier_init(q_empty(g), 4);
    }
    for (int s = 0; s < kStages; ++s) {
      barrier_init(k_full(s), 1);
      barrier_init(v_full(s), 1);
      barrier_init(k_empty(s), 4 * kGroups);
      barrier_init(v_empty(s), 4 * kGroups);
    }
    barrier_init_done();
  }
  __syncthreads();

  const int row_tiles = (p.queries + 64 * kGroups - 1) / (64 * kGroups);
  const int blocks = (p.keys + kN - 1) / kN;
  Schedule schedule(row_tiles * p.heads * p.batch, blocks, blockIdx.x, gridDim.x, !kCausal && p.split);
  const auto first_row = [&](int tile) { return tile % row_tiles * 64 * kGroups; };
  const auto head_of = [&](int tile) { return tile / row_tiles % p.heads; };
  const auto item_of = [&](int tile) { return tile / row_tiles / p.heads; };
  const auto next_segment = [&](Segment& s) {
    if (!schedule.next(s)) return false;
    if constexpr (kCausal) {
      int seen = min(p.keys, first_row(s.tile) + 64 * kGroups + p.keys - p.queries);
      if (p.key_lengths) seen = min(seen, p.key_lengths[item_of(s.tile)]);
      s.high = max(1, (seen + kN - 1) / kN);
    }
    return true;
  };

  if (warp < 4) {
    registers_down<24>();
    if (warp == 0 && lane == 0) {
      Ring ring;  // K and V advance together
      uint32_t q_phase = 0;
      Segment work;
      const auto fetch = [&](const CUtensorMap& map, uint32_t to, uint32_t full, uint32_t empty, int head, int n, int item) {
        barrier_wait(empty, ring.phase ^ 1);
        barrier_expect(full, kKBytes);
        tma_load(to, &map, full, 0, head, n * kN, item);
        tma_load(to + kN * 128, &map, full, 64, head, n * kN, item);
      };
      while (next_segment(work)) {
        const int head = head_of(work.tile), item = item_of(work.tile), kv_head = head / p.group;
        for (int n = work.high - 1; n >= work.low; --n) {
          fetch(map_k, k_at + ring.stage * kKBytes, k_full(ring.stage), k_empty(ring.stage), kv_head, n, item);
          if (n == work.high - 1) {
            for (int g = 0; g < kGroups; ++g) {
              barrier_wait(q_empty(g), q_phase ^ 1);
              barrier_expect(q_full(g), kQBytes);
              for (int half = 0; half < 2; ++half)
                tma_load(q_at + g * kQBytes + half * 64 * 128, &map_q, q_full(g), half * 64, head,
                         first_row(work.tile) + g * 64, item);
            }
            q_phase ^= 1;
          }
          fetch(map_v, v_at + ring.stage * kKBytes, v_full(ring.stage), v_empty(ring.stage), kv_head, n, item);
          ring.next();
        }
      }
    }
    __syncwarp();
  } else {
    registers_up<240>();
    const int group = warp / 4 - 1;
    const int thread = threadIdx.x % 128;
    const float scale = p.scale_log2e;
    const uint64_t q_desc = descriptor(q_at + group * kQBytes, 0);
    const uint64_t k_desc = descriptor(k_at, 0);
    const uint64_t v_desc = descriptor(v_at, kN * 128);

    float s[kN / 2], o[64], m[2], sum[2];
    uint32_t probs[kN / 4];
    Ring k, v;
    uint32_t q_phase = 0;

    const auto release = [&](uint32_t bar) {  // this warp has done with a stage
      if (lane == 0) barrier_arrive(bar);
    };
    const auto turn_begins = [&] {
      named_sync(1 + group, 256);
    };
    const auto turn_ends = [&] {
      named_arrive(1 + (group + 1) % kGroups, 256);
    };
    const auto issue_scores = [&] {
      const uint64_t kd = k_desc + k.stage * (kKBytes >> 4);
#pragma unroll
      for (int i = 0; i < kDim / 16; ++i) {
        const int half = i / 4, step = (i % 4) * 2;  // 32 bytes a step within the swizzled 128
        const uint64_t qi = q_desc + half * (64 * 128 >> 4) + step, ki = kd + half * (kN * 128 >> 4) + step;
        Product<kN>::run(s, qi, ki, i > 0);
      }
      product_commit();
    };
    const auto issue_output = [&] {
      product_fence();
      const uint64_t vd = v_desc + v.stage * (kKBytes >> 4);
#pragma unroll
      for (int i = 0; i < kN / 16; ++i) wgmma_rs(o, &probs[4 * i], vd + i * (2048 >> 4));
      product_commit();
    };
    const auto take_probs = [&] {
#pragma unroll
      for (int i = 0; i < kN / 4; ++i) probs[i] = pack(s[2 * i], s[2 * i + 1]);
    };
    const auto clear_output = [&] {
#pragma unroll
      for (int i = 0; i < 64; ++i) o[i] = 0;
    };
    // After the scores of block n of `w` have come in: the K stage and, after its last block, Q are free.
    const auto scores_done = [&](const Segment& w, int n) {
      pin(s);
      release(k_empty(k.stage));
      k.next();
      if (n == w.low && lane == 0) barrier_arrive(q_empty(group));
    };
    const auto output_done = [&] {
      pin(o);
      pin(s);
      release(v_empty(v.stage));
      v.next();
    };
    // Keys that do not exist, or that the query may not see, get no weight. Apart from the causal kind, only the
    // first block of a segment can reach beyond the keys.
    const auto mask = [&](const Segment& w, int n) {
      int left0 = p.keys - n * kN, left1 = left0, least = left0;
      if constexpr (kCausal) {
        if (p.key_lengths) left0 = p.key_lengths[item_of(w.tile)] - n * kN;
        const int row = first_row(w.tile) + group * 64 + warp % 4 * 16;
        const int seen = row + lane / 4 + 1 + p.keys - p.queries - n * kN;
        least = min(left0, row + 1 + p.keys - p.queries - n * kN);
        left1 = min(left0, seen + 8);
        left0 = min(left0, seen);
      }
      if (least < kN) {
        left0 -= lane % 4 * 2;
        left1 -= lane % 4 * 2;
#pragma unroll
        for (int i = 0; i < kN / 2; ++i)
          if (i / 4 * 8 + (i & 1) >= (i & 2 ? left1 : left0)) s[i] = -kInfinity;
      }
    };
    const auto first_softmax = [&](const Segment& w, int n) {
      mask(w, n);
      row_max<kN>(s, m);
      exponentials<kCausal, kN>(s, m, scale, sum);
    };

    const auto store = [&](int tile, const float (&sums)[2]) {
      const int head = head_of(tile), item = item_of(tile);
      const int quad = lane % 4, row = first_row(tile) + group * 64 + warp % 4 * 16 + lane / 4;
      __nv_bfloat16* to = static_cast<__nv_bfloat16*>(p.out) + item * p.out_batch_stride + row * p.out_token_stride + head * kDim + quad * 8;
#pragma unroll
      for (int half = 0; half < 2; ++half) {
        const float inverse = 1.0f / sums[half];
#pragma unroll
        for (int g = 0; g < 4; ++g) {
          uint32_t w[4];
#pragma unroll
          for (int i = 0; i < 4; ++i)
            w[i] = pack(o[16 * g + 4 * i + 2 * half] * inverse, o[16 * g + 4 * i + 2 * half + 1] * inverse);
          quad_transpose(w, quad);
          if (row + half * 8 < p.queries)
            *reinterpret_cast<uint4*>(to + half * 8 * p.out_token_stride + g * 32) = make_uint4(w[0], w[1], w[2], w[3]);
        }
      }
    };
    const auto piece = [&](int owner, int tile) {  // where block `owner` leaves its piece of a cut tile
      const int second = schedule.first_unit(owner) / blocks != tile;
      const int slot = (owner * 2 + second) * kGroups + group;
      return reinterpret_cast<float4*>(p.workspace + HOPPER_ATTENTION_COUNTERS + static_cast<int64_t>(slot) * HOPPER_ATTENTION_PIECE) + thread;
    };
    // Uses o, m_, sum_ of the finished segment; m and sum may already belong to the next.
    const auto finish = [&](const Segment& w, float (&m_)[2], float (&sum_)[2]) {
#pragma unroll
      for (int i = 0; i < 2; ++i) {
        sum_[i] += __shfl_xor_sync(~0u, sum_[i], 1);
        sum_[i] += __shfl_xor_sync(~0u, sum_[i], 2);
      }
      if (!kCausal && w.high - w.low < blocks) {
        const int first = schedule.owner(w.tile * blocks), last = schedule.owner((w.tile + 1) * blocks - 1);
        float4* mine = piece(blockIdx.x, w.tile);
#pragma unroll
        for (int i = 0; i < 16; ++i) __stcg(mine + i * 128, make_float4(o[4 * i], o[4 * i + 1], o[4 * i + 2], o[4 * i + 3]));
        __stcg(mine + 16 * 128, make_float4(m_[0], m_[1], sum_[0], sum_[1]));
        __threadfence();
        __syncwarp();
        // Each thread keeps to its own slice of a piece, so a warp only needs its own counter.
        int* counter = reinterpret_cast<int*>(p.workspace) + w.tile * kGroups * 4 + warp - 4;
        int before = 0;
        if (lane == 0) before = atomicAdd(counter, 1);
        before = __shfl_sync(~0u, before, 0);
        if (before != last - first) return false;
        if (lane == 0) *counter = 0;  // for the next launch
        __threadfence();
        for (int other = first; other <= last; ++other) {
          if (other == static_cast<int>(blockIdx.x)) continue;
          const float4* theirs = piece(other, w.tile);
          const float4 t = __ldcg(theirs + 16 * 128);
          const float top0 = fmaxf(m_[0], t.x), top1 = fmaxf(m_[1], t.y);
          const float a0 = exp2_fast((m_[0] - top0) * scale), a1 = exp2_fast((m_[1] - top1) * scale);
          const float b0 = exp2_fast((t.x - top0) * scale), b1 = exp2_fast((t.y - top1) * scale);
          m_[0] = top0, m_[1] = top1;
          sum_[0] = sum_[0] * a0 + t.z * b0, sum_[1] = sum_[1] * a1 + t.w * b1;
#pragma unroll
          for (int i = 0; i < 16; ++i) {
            const float4 x = __ldcg(theirs + i * 128);
            o[4 * i] = o[4 * i] * a0 + x.x * b0;
            o[4 * i + 1] = o[4 * i + 1] * a0 + x.y * b0;
            o[4 * i + 2] = o[4 * i + 2] * a1 + x.z * b1;
            o[4 * i + 3] = o[4 * i + 3] * a1 + x.w * b1;
          }
        }
      }
      return true;
    };

    Segment work;
    if (next_segment(work)) {
      if (group == kGroups - 1) named_arrive(1, 256);  // the first turn is group 0's
      barrier_wait(q_full(group), q_phase);
      barrier_wait(k_full(k.stage), k.phase);
      turn_begins();
      pin(s);
      product_fence();
      issue_scores();
      turn_ends();
      product_wait<0>();
      scores_done(work, work.high - 1);
      first_softmax(work, work.high - 1);
      take_probs();
      clear_output();

      while (true) {
        for (int n = work.high - 2; n >= work.low; --n) {
          barrier_wait(k_full(k.stage), k.phase);
          turn_begins();
          pin(s);
          pin(o);
          product_fence();
          issue_scores();
          barrier_wait(v_full(v.stage), v.phase);
          issue_output();
          turn_ends();
          product_wait<1>();
          scores_done(work, n);

          float top[2], alpha[2], part[2];
          if constexpr (kCausal) mask(work, n);
          row_max<kN>(s, top);
#pragma unroll
          for (int i = 0; i < 2; ++i) {
            // The running maximum need not be exact: while it is but little short, what was summed so far
            // can stay as it is.
            const float rise = (top[i] - m[i]) * scale;
            alpha[i] = rise > kSlack ? exp2_fast(-rise) : 1.0f;
            m[i] = rise > kSlack ? top[i] : m[i];
          }
          exponentials<kCausal, kN>(s, m, scale, part);
          sum[0] = sum[0] * alpha[0] + part[0];
          sum[1] = sum[1] * alpha[1] + part[1];
          product_wait<0>();
          output_done();
          take_probs();
          if (__any_sync(~0u, alpha[0] != 1.0f || alpha[1] != 1.0f)) {
#pragma unroll
            for (int i = 0; i < 64; ++i) o[i] *= alpha[i / 2 % 2];
          }
        }

        // The last P V of a segment runs beside the first Q K^T of the next.
        Segment next;
        const bool more = next_segment(next);
        float m_[2] = {m[0], m[1]}, sum_[2] = {sum[0], sum[1]};
        if (more) {
          q_phase ^= 1;
          barrier_wait(q_full(group), q_phase);
          barrier_wait(k_full(k.stage), k.phase);
          turn_begins();
          pin(s);
          pin(o);
          product_fence();
          issue_scores();
          barrier_wait(v_full(v.stage), v.phase);
          issue_output();
          turn_ends();
          product_wait<1>();
          scores_done(next, next.high - 1);
          first_softmax(next, next.high - 1);
          product_wait<0>();
          output_done();
          take_probs();
        } else {
          barrier_wait(v_full(v.stage), v.phase);
          pin(o);
          product_fence();
          issue_output();
          product_wait<0>();
          output_done();
        }
        if (finish(work, m_, sum_)) store(work.tile, sum_);
        if (!more) break;
        clear_output();
        work = next;
      }
      if (group == 0) named_sync(1, 256);  // takes up the last hand-over
    }
  }
}

}  // namespace hopper_attention_detail

extern "C" __global__ void __launch_bounds__(384, 1)
    hopper_attention(const __grid_constant__ CUtensorMap q, const __grid_constant__ CUtensorMap k,
                     const __grid_constant__ CUtensorMap v, const __grid_constant__ HopperAttentionParams p) {
  hopper_attention_detail::forward<false, HOPPER_ATTENTION_KEYS>(q, k, v, p);
}

extern "C" __global__ void __launch_bounds__(384, 1)
    hopper_attention_causal(const __grid_constant__ CUtensorMap q, const __grid_constant__ CUtensorMap k,
                            const __grid_constant__ CUtensorMap v, const __grid_constant__ HopperAttentionParams p) {
  hopper_attention_detail::forward<true, HOPPER_ATTENTION_CAUSAL_KEYS>(q, k, v, p);
}
