// What host and device code share about the kernels of hopper_gemm.cu. Compiles with a host
// compiler and with NVRTC.
#pragma once

#include "klein/ops/cuda/kernels/tensor_map.h"

namespace hopper {

enum Input {
  MATRIX,  // A [rows, K]
  CONV3,   // 3x3 convolution, stride 1, padding 1, of x [B, H, W, C]; W [O, 3, 3, C]
  UP2  // the same of x enlarged twice (nearest): 4 convolutions 2x2 of x, one for each place in a
       // 2x2 block of the result; W [2, 2, O, 2, 2, C] (place y, x; output; tap y, x) are sums of
       // the taps that fall on one pixel of x
};
enum Output {
  SWIGLU,   // silu(gate) * up, with two matrices W: one for the gate, one for up
  CONV,     // acc + bias
  CONV_ADD  // residual + (acc + bias)
};

// One of the (up to) two problems of a launch. Strides count elements. Everything is bf16 and
// aligned to 16 bytes.
struct Problem {
  void* y;
  const void* residual;  // CONV_ADD: the pixels of y
  const void* bias;      // CONV, CONV_ADD: [N] or null
  int rows;              // MATRIX: rows of A; else pictures B
  int tiles;     // tiles along the rows: MATRIX: rows / BM rounded up; else rows * across * down
  int ldy, ldr;  // row strides (convolutions: between pixels), multiples of 8
};

struct Params {
  Problem problem[2];
  int n;        // columns of y, a multiple of 64
  int n_tiles;  // n / OUT_N rounded up (UP2: times 4)
  int steps;    // MATRIX: K / 64; CONV3: 3 C / 64; UP2: 2 C / 64
  int steps_1;  // MATRIX: how many of them come from the first matrix A (all: = steps)
  int group;  // tiles along the rows that are visited together, for the L2 cache: 16 (any value >=
              // 1 is right)
  int units;  // tiles of all problems: the sum of tiles * n_tiles
  int height, width, across, down;  // convolutions: of x; 8 pixel wide patches across, and BM / 8
                                    // pixel high ones down, rounded up
};

// Tensor maps of each problem (of the second, anything valid if there is but one): bf16, swizzle
// 128 bytes, no interleave, zero fill. Boxes: A {64, BM} of {K, rows}, or {64, 8, BM / 8 + TAPS -
// 1, 1} of {C, W, H, B}; W {64, BN / 2} of {K (9 C, 4 C), rows of W}. A may be two matrices side by
// side along K (Params::steps_1): a[.][1] is the second. SWIGLU: w[.][0] is the gate matrix,
// w[.][1] the up matrix; else w[.][1] is unused.
struct Maps {
  CUtensorMap a[2][2], w[2][2];
};

template <Input INPUT_, Output OUTPUT_, int MT_, int BN_, int STAGES_A_, int STAGES_W_, int DRIFT_>
struct Gemm {
  static constexpr Input INPUT = INPUT_;
  static constexpr Output OUTPUT = OUTPUT_;
  static constexpr int WGS = 2;  // consumer warpgroups
  static constexpr int MT = MT_, BN = BN_, STAGES_A = STAGES_A_, STAGES_W = STAGES_W_,
                       DRIFT = DRIFT_;
  static constexpr int BM = 64 * MT * WGS;
  // A picture's patch is 8 pixels wide. It is loaded once for each horizontal tap, with TAPS - 1
  // more rows of pixels, and serves all vertical taps: 8 pixels of 64 channels are just the 1024
  // bytes by which a tile descriptor can move.
  static constexpr int TAPS = INPUT == MATRIX ? 1 : INPUT == CONV3 ? 3 : 2;
  static constexpr int STEP = 64;  // elements of K in 128 bytes
  static constexpr int A_BYTES = (BM + 8 * (TAPS - 1)) * 128, W_BYTES = BN * 128;
  static constexpr int OUT_N = OUTPUT == SWIGLU ? BN / 2 : BN;  // columns of y in a tile
  static constexpr int PIECES =
      MT * OUT_N / 64;  // a consumer writes its part of a tile in pieces of 64 columns
  static constexpr int STAGING = WGS * 4 * 16 * 128;
  static constexpr int BARRIERS = 2 * (STAGES_A + STAGES_W) * 8;
  static constexpr bool ADDS = OUTPUT == CONV_ADD;
  // Launch: any number of blocks up to the multiprocessors, better no more than Params::units.
  static constexpr int THREADS = 128 * (WGS + 1);
  static constexpr int SHARED =
      1024 + STAGES_A * A_BYTES + STAGES_W * W_BYTES + STAGING + BARRIERS;  // dynamic, bytes
  static_assert(SHARED <= 232448 && (TAPS > 1 || STAGES_A == STAGES_W), "");
  static_assert((WGS - 1) * DRIFT < STAGES_A && (WGS - 1) * DRIFT * TAPS <= STAGES_W, "");
};

// The entry points, named as their types with hopper_ in front: hopper_swiglu_256 ...
using swiglu_256 = Gemm<MATRIX, SWIGLU, 1, 256, 4, 4, 2>;
using conv3_256 = Gemm<CONV3, CONV, 1, 256, 3, 4, 1>;
using conv3_128 = Gemm<CONV3, CONV, 2, 128, 3, 6, 1>;  // for O <= 128
using conv3_add_256 = Gemm<CONV3, CONV_ADD, 1, 256, 3, 4, 1>;
using conv3_add_128 = Gemm<CONV3, CONV_ADD, 2, 128, 3, 6, 1>;
using up2_256 = Gemm<UP2, CONV, 1, 256, 3, 4, 1>;
using up2_128 = Gemm<UP2, CONV, 2, 128, 3, 6, 1>;

}  // namespace hopper
