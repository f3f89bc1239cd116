// Matrix products and convolutions of bf16 on Hopper: y = A W^T with float accumulation, in one persistent kernel template.
//
// A block is one producer warpgroup (one thread of it feeds two rings of shared memory through TMA) and two consumer
// warpgroups, each of which multiplies 64 MT rows by all BN columns with wgmma. Blocks stay on their multiprocessor and work
// through tiles; the rings run on across tiles. A consumer rounds a finished tile to bf16 in registers and begins the next
// at once; it writes the results out a piece at a time while the tensor cores work on the next tile's first steps. The
// consumers run DRIFT steps apart, so that one multiplies while the other rounds.
#include "klein/ops/cuda/kernels/hopper.cuh"
#include "klein/ops/cuda/kernels/hopper_gemm_params.h"

namespace hopper {

struct Tile {
  int problem, m, n;  // m: first row, or the patch's number; n: first column of y
  int picture, y, x;  // convolutions: the patch
  int place;          // UP2: 2 * row + column in the 2x2 block
};

// Tile number `unit` of a launch; block b has the units b, b + blocks, ...
template <class G> HOPPER_FN Tile locate(const Params& p, int unit) {
  Tile t{};
  if (unit >= p.problem[0].tiles * p.n_tiles) {
    unit -= p.problem[0].tiles * p.n_tiles;
    t.problem = 1;
  }
  const int first = unit / (p.group * p.n_tiles) * p.group;
  const int size = min(p.group, p.problem[t.problem].tiles - first);
  const int within = unit - first * p.n_tiles;
  t.m = first + within % size;
  t.n = within / size;
  if constexpr (G::INPUT == UP2) {
    t.place = t.n / (p.n_tiles / 4);
    t.n %= p.n_tiles / 4;
  }
  t.n *= G::OUT_N;
  if constexpr (G::INPUT == MATRIX) {
    t.m *= G::BM;
  } else {
    t.x = t.m % p.across * 8;
    t.y = t.m / p.across % p.down * (G::BM / 8);
    t.picture = t.m / p.across / p.down;
  }
  return t;
}

template <int STAGES> struct Ring {
  int at = 0;
  u32 phase = 0;
  HOPPER_FN void next() {
    if (++at == STAGES) at = 0, phase ^= 1;
  }
};

// ---- The producer: one thread ----

template <class G>
HOPPER_FN void produce(const Maps& maps, const Params& p, u32 a_tiles, u32 w_tiles, u32 full_a, u32 empty_a, u32 full_w,
                       u32 empty_w) {
  constexpr int HALF = G::W_BYTES / 2;
  Ring<G::STAGES_A> ra;
  Ring<G::STAGES_W> rw;
  for (int unit = blockIdx.x; unit < p.units; unit += gridDim.x) {
    const Tile t = locate<G>(p, unit);
    const CUtensorMap *map_a = maps.a[t.problem], *map_w = maps.w[t.problem];
    const int w_row = t.n + (G::INPUT == UP2 ? t.place * p.n : 0);
    const int channels = p.steps / G::TAPS * G::STEP;  // convolutions
    for (int step = 0; step < p.steps; ++step) {
      barrier_wait(empty_a + 8 * ra.at, ra.phase ^ 1);
      const u32 a = a_tiles + ra.at * G::A_BYTES, filled_a = full_a + 8 * ra.at;
      barrier_expect(filled_a, G::A_BYTES + (G::TAPS == 1 ? G::W_BYTES : 0));
      int k = step * G::STEP, tap_x = 0;
      if constexpr (G::TAPS == 1) {
        const bool second = step >= p.steps_1;
        tma_load(a, map_a + second, filled_a, k - second * p.steps_1 * G::STEP, t.m);
      } else {
        k = step / G::TAPS * G::STEP, tap_x = step % G::TAPS;
        tma_load(a, map_a, filled_a, k, t.x + tap_x - 1 + (t.place & 1), t.y - 1 + (t.place >> 1), t.picture);
      }
      ra.next();
#pragma unroll
      for (int tap_y = 0; tap_y < G::TAPS; ++tap_y) {
        u32 filled = filled_a;
        if constexpr (G::TAPS > 1) {
          barrier_wait(empty_w + 8 * rw.at, rw.phase ^ 1);
          filled = full_w + 8 * rw.at;
          barrier_expect(filled, G::W_BYTES);
        }
        const u32 w = w_tiles + rw.at * G::W_BYTES;
        const int k_w = k + (tap_y * G::TAPS + tap_x) * channels;
        tma_load(w, map_w, filled, k_w, w_row);
        if constexpr (G::OUTPUT == SWIGLU) tma_load(w + HALF, map_w + 1, filled, k_w, w_row);
        else tma_load(w + HALF, map_w, filled, k_w, w_row + G::BN / 2);
        rw.next();
      }
    }
  }
}

// ---- Results ----

// Where row `row` of a tile lies among the rows (pixels) of y, and whether it is one.
template <class G> HOPPER_FN int row_of(const Params& p, const Tile& t, int row) {
  if constexpr (G::INPUT == MATRIX) return t.m + row;
  const int y = t.y + row / 8, x = t.x + row % 8;
  if constexpr (G::INPUT == CONV3) return (t.picture * p.height + y) * p.width + x;
  return ((t.picture * p.height + y) * 2 + (t.place >> 1)) * (2 * p.width) + 2 * x + (t.place & 1);
}
template <class G> HOPPER_FN bool is_inside(const Params& p, const Tile& t, int row) {
  const int rows = p.problem[t.problem].rows;
  if constexpr (G::INPUT == MATRIX) return t.m + row < rows;
  return t.picture < rows && t.y + row / 8 < p.height && t.x + row % 8 < p.width;
}

HOPPER_FN u32 add(u32 a, u32 b) { return pack(low(a) + low(b), high(a) + high(b)); }
HOPPER_FN float silu(float v) { return __fdividef(v, 1.f + __expf(-v)); }
HOPPER_FN u32 swiglu(u32 g, u32 u) {
  const u32 s = pack(silu(low(g)), silu(high(g)));
  return pack(low(s) * low(u), high(s) * high(u));
}

HOPPER_FN float2 at_column(const void* v, int c, int n) {
  if (v == nullptr || c >= n) return {0, 0};
  const u32 two = __ldg(reinterpret_cast<const u32*>(static_cast<const bf16*>(v) + c));
  return {low(two), high(two)};
}

// A consumer's part of a tile, rounded: words of two columns, in the order of the accumulators.
template <class G> using Rounded = u32[G::MT][G::BN / 8][2];

// Applies the bias and rounds.
template <class G>
HOPPER_FN void round_tile(const Params& p, const Tile& t, int warp, const float (&acc)[G::MT][G::BN / 2], Rounded<G>& out) {
  const Problem& problem = p.problem[t.problem];
  const int lane = threadIdx.x % 32;
#pragma unroll
  for (int mt = 0; mt < G::MT; ++mt) {
#pragma unroll
    for (int j = 0; j < G::BN / 8; ++j) {
      const int up = G::OUTPUT == SWIGLU && j >= G::BN / 16;
      const int c = t.n + (j - up * (G::BN / 16)) * 8 + lane % 4 * 2;
      float2 bias{0, 0};
      if constexpr (G::OUTPUT != SWIGLU) bias = at_column(problem.bias, c, p.n);
#pragma unroll
      for (int h = 0; h < 2; ++h) {
        out[mt][j][h] = pack(acc[mt][4 * j + 2 * h] + bias.x, acc[mt][4 * j + 2 * h + 1] + bias.y);
      }
    }
  }
}

// Writes a warp's part of a rounded tile in pieces of 16 rows x 64 columns. A piece passes through the warp's own 2 KB of
// shared memory, from which 8 lanes write each row's 128 bytes: vector i of a lane is in row 4 i + lane / 8.
template <class G> struct Writer {
  const Params& p;
  int warp;
  u32 staging;
  uint4 residual[4];

  // step = 0 ... PIECES, each once and in order: writes piece step - 1, stages piece step.
  HOPPER_FN void run(const Tile& t, const Rounded<G>& v, int step) {
    if (step > 0) {
      write(t, step - 1);
      __syncwarp();
    }
    if (step < G::PIECES) {
      stage(v, step);
      if constexpr (G::ADDS) load_residual(t, step);
      __syncwarp();
    }
  }

 private:
  static constexpr int ACROSS = G::OUT_N / 64;

  // Calls f(vector, row of y, column) for the vectors that lie inside y.
  template <class F> HOPPER_FN void each(const Tile& t, int piece, F f) const {
    const int lane = threadIdx.x % 32, row = (warp / 4 * G::MT + piece / ACROSS) * 64 + warp % 4 * 16 + lane / 8;
    const int column = t.n + piece % ACROSS * 64 + lane % 8 * 8;
    const int first = row_of<G>(p, t, row), right = G::INPUT == UP2 ? 2 : 1;
    const int down = G::INPUT == MATRIX ? 8 : G::INPUT == CONV3 ? p.width : 4 * p.width;
#pragma unroll
    for (int i = 0; i < 4; ++i)
      if (is_inside<G>(p, t, row + 4 * i) && column < p.n) f(i, first + i % 2 * 4 * right + i / 2 * down, column);
  }

  HOPPER_FN void load_residual(const Tile& t, int piece) {
    const Problem& problem = p.problem[t.problem];
    each(t, piece, [&](int i, int row, int column) {
      const bf16* from = static_cast<const bf16*>(problem.residual) + static_cast<long long>(row) * problem.ldr + column;
      residual[i] = __ldg(reinterpret_cast<const uint4*>(from));
    });
  }

  HOPPER_FN void stage(const Rounded<G>& v, int piece) const {
    const int lane = threadIdx.x % 32, row = lane % 16, mt = piece / ACROSS, first = piece % ACROSS * 8;
#pragma unroll
    for (int j = 0; j < 8; j += 2) {
      u32 w[4];
#pragma unroll
      for (int i = 0; i < 4; ++i) {
        w[i] = v[mt][first + j + i / 2][i % 2];
        if constexpr (G::OUTPUT == SWIGLU) w[i] = swiglu(w[i], v[mt][G::BN / 16 + first + j + i / 2][i % 2]);
      }
      store_matrices(staging + row * 128 + (j + lane / 16 ^ row & 7) * 16, w[0], w[1], w[2], w[3]);
    }
  }

  HOPPER_FN void write(const Tile& t, int piece) const {
    const Problem& problem = p.problem[t.problem];
    const int lane = threadIdx.x % 32;
    each(t, piece, [&](int i, int row, int column) {
      const int local = 4 * i + lane / 8;
      uint4 v = load_shared(staging + local * 128 + (lane % 8 ^ local & 7) * 16);
      const uint4& r = residual[i];
      if constexpr (G::OUTPUT == CONV_ADD) v = {add(r.x, v.x), add(r.y, v.y), add(r.z, v.z), add(r.w, v.w)};
      *reinterpret_cast<uint4*>(static_cast<bf16*>(problem.y) + static_cast<long long>(row) * problem.ldy + column) = v;
    });
  }
};

// Asks for a warp's part of the residual ahead of time.
template <class G> HOPPER_FN void prefetch_residual(const Params& p, const Tile& t, int warp) {
  const Problem& problem = p.problem[t.problem];
  const int lane = threadIdx.x % 32, row = (warp / 4 * G::MT + lane / 16) * 64 + warp % 4 * 16 + lane % 16;
  if (lane < 16 * G::MT && is_inside<G>(p, t, row)) {
    const long long at = static_cast<long long>(row_of<G>(p, t, row)) * problem.ldr + t.n;
    prefetch_l2(static_cast<const bf16*>(problem.residual) + at, min(G::OUT_N, p.n - t.n) * 2);
  }
}

// ---- The consumers ----

template <class G>
HOPPER_FN void consume(const Params& p, int wg, u32 a_tiles, u32 w_tiles, u32 staging, u32 full_a, u32 empty_a, u32 full_w,
                       u32 empty_w) {
  const int thread = threadIdx.x % 128, warp = wg * 4 + thread / 32;
  Ring<G::STAGES_A> ra;
  Ring<G::STAGES_W> rw;
  float acc[G::MT][G::BN / 2];
  u32 keep;
  int last_a, last_w;  // slots that products under way read

  const auto release = [&] {
    if (thread == 0) barrier_arrive((G::TAPS == 1 ? empty_a : empty_w) + 8 * last_w);
  };
  const auto release_a = [&] {  // of a convolution
    if (thread == 0) barrier_arrive(empty_a + 8 * last_a);
  };
  // Begins a step's products and waits for those of the step before.
  const auto multiply = [&] {
    barrier_wait(full_a + 8 * ra.at, ra.phase);
#pragma unroll
    for (int tap = 0; tap < G::TAPS; ++tap) {
      if constexpr (G::TAPS > 1) barrier_wait(full_w + 8 * rw.at, rw.phase);
      const u64 a = tile_descriptor(a_tiles + ra.at * G::A_BYTES + wg * (G::MT * 8192) + tap * 1024);
      const u64 w = tile_descriptor(w_tiles + rw.at * G::W_BYTES);
      product_fence();
#pragma unroll
      for (int k = 0; k < 4; ++k) {
#pragma unroll
        for (int mt = 0; mt < G::MT; ++mt) Product<G::BN>::run(acc[mt], a + mt * 512 + k * 2, w + k * 2, keep);
        keep = 1;
      }
      product_commit();
      product_wait<1>();
      if (last_w >= 0) release();
      last_w = rw.at;
      rw.next();
      if constexpr (G::TAPS > 1)
        if (tap == 0 && last_a >= 0) release_a();
    }
    last_a = ra.at;
    ra.next();
  };

  Rounded<G> rounded;
  Writer<G> writer{p, warp, staging + warp * 2048, {}};
  Tile done;  // the tile in `rounded`
  bool pending = false, begun = false;
  for (int unit = blockIdx.x; unit < p.units; unit += gridDim.x) {
    const Tile t = locate<G>(p, unit);
    // The later warpgroup begins when the loads are DRIFT steps on; afterwards both advance alike, so it stays behind.
    if (!begun && G::DRIFT > 0 && wg > 0 && p.steps > wg * G::DRIFT) barrier_wait(full_a + 8 * wg * G::DRIFT, 0);
    begun = true;
    if (G::ADDS) prefetch_residual<G>(p, t, warp);
    keep = 0, last_a = last_w = -1;
    int step = 0;
    if (pending) {
      if (p.steps > G::PIECES) {
#pragma unroll
        for (int i = 0; i <= G::PIECES; ++i) {
          multiply();
          writer.run(done, rounded, i);
        }
        step += G::PIECES + 1;
      } else {
#pragma unroll
        for (int i = 0; i <= G::PIECES; ++i) writer.run(done, rounded, i);
      }
    }
    for (; step < p.steps; ++step) multiply();
    product_wait<0>();
    release();
    if constexpr (G::TAPS > 1) release_a();

    pending = true;
    round_tile<G>(p, t, warp, acc, rounded);
    done = t;
  }
  if (pending) {
#pragma unroll
    for (int i = 0; i <= G::PIECES; ++i) writer.run(done, rounded, i);
  }
}

// ---- The kernel ----

template <class G> HOPPER_FN void gemm(const Maps& maps, const Params& p) {
  extern __shared__ unsigned char shared[];
  const u32 a_tiles = (shared_address(shared) + 1023) & ~1023u;
  const u32 w_tiles = a_tiles + G::STAGES_A * G::A_BYTES;
  const u32 staging = w_tiles + G::STAGES_W * G::W_BYTES;
  const u32 full_a = staging + G::STAGING, empty_a = full_a + 8 * G::STAGES_A;
  const u32 full_w = empty_a + 8 * G::STAGES_A, empty_w = full_w + 8 * G::STAGES_W;

  if (threadIdx.x == 0) {
    tma_prefetch(maps.a[0]), tma_prefetch(maps.w[0]);
    if constexpr (G::OUTPUT == SWIGLU) tma_prefetch(maps.w[0] + 1);
    for (int i = 0; i < G::STAGES_A; ++i) {
      barrier_init(full_a + 8 * i, 1);
      barrier_init(empty_a + 8 * i, G::WGS);
    }
    for (int i = 0; i < G::STAGES_W; ++i) {
      barrier_init(full_w + 8 * i, 1);
      barrier_init(empty_w + 8 * i, G::WGS);
    }
    barrier_init_done();
  }
  __syncthreads();

  if (threadIdx.x < 128) {
    registers_down<24>();
    if (threadIdx.x == 0) produce<G>(maps, p, a_tiles, w_tiles, full_a, empty_a, full_w, empty_w);
  } else {
    registers_up<240>();
    consume<G>(p, threadIdx.x / 128 - 1, a_tiles, w_tiles, staging, full_a, empty_a, full_w, empty_w);
  }
}

}  // namespace hopper

#define HOPPER_KERNEL(NAME)                                                                                \
  extern "C" __global__ void __launch_bounds__(hopper::NAME::THREADS, 1)                                   \
      hopper_##NAME(const __grid_constant__ hopper::Maps maps, const __grid_constant__ hopper::Params p) { \
    hopper::gemm<hopper::NAME>(maps, p);                                                                   \
  }
HOPPER_KERNEL(swiglu_256)
HOPPER_KERNEL(conv3_256)
HOPPER_KERNEL(conv3_128)
HOPPER_KERNEL(conv3_add_256)
HOPPER_KERNEL(conv3_add_128)
HOPPER_KERNEL(up2_256)
HOPPER_KERNEL(up2_128)
