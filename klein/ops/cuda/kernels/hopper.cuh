// What CUDA C++ has no words for on Hopper (sm_90a): mbarriers, the tensor memory accelerator (TMA), warpgroup matrix
// products (wgmma) and register reallocation. Thin wrappers over PTX; NVRTC compiles them too.
#pragma once
#include <cuda_bf16.h>

#include "klein/ops/cuda/kernels/tensor_map.h"

namespace hopper {

using u32 = unsigned int;
using u64 = unsigned long long;
using bf16 = __nv_bfloat16;

#define HOPPER_FN __device__ __forceinline__

HOPPER_FN u32 shared_address(const void* p) { return static_cast<u32>(__cvta_generic_to_shared(p)); }

// ---- mbarriers (named by their shared memory address) ----

HOPPER_FN void barrier_init(u32 bar, u32 arrivals) {
  asm volatile("mbarrier.init.shared::cta.b64 [%0], %1;" ::"r"(bar), "r"(arrivals) : "memory");
}
// Makes the initialised barriers visible to TMA (and to other blocks of a cluster, were there any).
HOPPER_FN void barrier_init_done() { asm volatile("fence.mbarrier_init.release.cluster;" ::: "memory"); }

// Arrives, and tells the barrier how many bytes TMA will bring in this phase.
HOPPER_FN void barrier_expect(u32 bar, u32 bytes) {
  asm volatile("mbarrier.arrive.expect_tx.shared::cta.b64 _, [%0], %1;" ::"r"(bar), "r"(bytes) : "memory");
}
HOPPER_FN void barrier_arrive(u32 bar) {
  asm volatile("mbarrier.arrive.shared::cta.b64 _, [%0];" ::"r"(bar) : "memory");
}
// Waits until the phase of this parity has completed (a fresh barrier counts as having completed parity 1).
HOPPER_FN void barrier_wait(u32 bar, u32 parity) {
  asm volatile(
      "{ .reg .pred done;\n"
      "again: mbarrier.try_wait.parity.shared::cta.b64 done, [%0], %1;\n"
      "@!done bra again; }" ::"r"(bar), "r"(parity)
      : "memory");
}

// ---- Warpgroups ----

template <int N> HOPPER_FN void registers_down() { asm volatile("setmaxnreg.dec.sync.aligned.u32 %0;" ::"n"(N)); }
template <int N> HOPPER_FN void registers_up() { asm volatile("setmaxnreg.inc.sync.aligned.u32 %0;" ::"n"(N)); }

HOPPER_FN void prefetch_l2(const void* p, u32 bytes) {  // both multiples of 16
  asm volatile("cp.async.bulk.prefetch.L2.global [%0], %1;" ::"l"(p), "r"(bytes) : "memory");
}

// ---- TMA: a box of a tensor into shared memory; `bar` counts its bytes ----

HOPPER_FN void tma_prefetch(const CUtensorMap* map) {
  asm volatile("prefetch.tensormap [%0];" ::"l"(map) : "memory");
}
HOPPER_FN void tma_load(u32 dst, const CUtensorMap* map, u32 bar, int x, int y) {
  asm volatile(
      "cp.async.bulk.tensor.2d.shared::cluster.global.mbarrier::complete_tx::bytes [%0], [%1, {%3, %4}], [%2];" ::"r"(dst),
      "l"(map), "r"(bar), "r"(x), "r"(y)
      : "memory");
}
HOPPER_FN void tma_load(u32 dst, const CUtensorMap* map, u32 bar, int x, int y, int z, int w) {
  asm volatile(
      "cp.async.bulk.tensor.4d.shared::cluster.global.mbarrier::complete_tx::bytes"
      " [%0], [%1, {%3, %4, %5, %6}], [%2];" ::"r"(dst),
      "l"(map), "r"(bar), "r"(x), "r"(y), "r"(z), "r"(w)
      : "memory");
}

// ---- Moving 8x8 bf16 tiles from the layout of a product's accumulators to rows in shared memory ----

HOPPER_FN void store_matrices(u32 address, u32 a, u32 b, u32 c, u32 d) {
  asm volatile("stmatrix.sync.aligned.m8n8.x4.shared.b16 [%0], {%1, %2, %3, %4};" ::"r"(address), "r"(a), "r"(b), "r"(c),
               "r"(d)
               : "memory");
}
HOPPER_FN uint4 load_shared(u32 address) {
  uint4 v;
  asm volatile("ld.shared.v4.u32 {%0, %1, %2, %3}, [%4];"
               : "=r"(v.x), "=r"(v.y), "=r"(v.z), "=r"(v.w)
               : "r"(address)
               : "memory");
  return v;
}
HOPPER_FN u32 pack(float lo, float hi) {  // two bf16, each rounded to nearest even
  u32 r;
  asm("cvt.rn.bf16x2.f32 %0, %1, %2;" : "=r"(r) : "f"(hi), "f"(lo));
  return r;
}
HOPPER_FN float low(u32 v) { return __uint_as_float(v << 16); }
HOPPER_FN float high(u32 v) { return __uint_as_float(v & 0xffff0000u); }

// ---- wgmma ----

// Describes a tile in shared memory whose rows are 128 bytes along K, written by TMA with the 128 byte swizzle, at a multiple
// of 1024 bytes: groups of 8 rows lie 1024 bytes apart. Adding n to the result moves 16 n bytes on.
HOPPER_FN u64 tile_descriptor(u32 address) {
  return static_cast<u64>((address & 0x3ffff) >> 4) | 1ull << 16 | 64ull << 32 | 1ull << 62;
}
HOPPER_FN void product_fence() { asm volatile("wgmma.fence.sync.aligned;" ::: "memory"); }
HOPPER_FN void product_commit() { asm volatile("wgmma.commit_group.sync.aligned;" ::: "memory"); }
template <int N> HOPPER_FN void product_wait() { asm volatile("wgmma.wait_group.sync.aligned %0;" ::"n"(N) : "memory"); }

#define HOPPER_D64 \
    "%0, %1, %2, %3, %4, %5, %6, %7, %8, %9, %10, %11, %12, %13, %14, %15," \
    "%16, %17, %18, %19, %20, %21, %22, %23, %24, %25, %26, %27, %28, %29, %30, %31," \
    "%32, %33, %34, %35, %36, %37, %38, %39, %40, %41, %42, %43, %44, %45, %46, %47," \
    "%48, %49, %50, %51, %52, %53, %54, %55, %56, %57, %58, %59, %60, %61, %62, %63"
#define HOPPER_D96 \
    HOPPER_D64 ", %64, %65, %66, %67, %68, %69, %70, %71, %72, %73, %74, %75, %76, %77, %78, %79," \
    "%80, %81, %82, %83, %84, %85, %86, %87, %88, %89, %90, %91, %92, %93, %94, %95"
#define HOPPER_D128 \
    HOPPER_D96 ", %96, %97, %98, %99, %100, %101, %102, %103, %104, %105, %106, %107, %108, %109, %110, %111," \
    "%112, %113, %114, %115, %116, %117, %118, %119, %120, %121, %122, %123, %124, %125, %126, %127"
#define HOPPER_F8(i) \
  "+f"(d[i]), "+f"(d[i + 1]), "+f"(d[i + 2]), "+f"(d[i + 3]), "+f"(d[i + 4]), "+f"(d[i + 5]), "+f"(d[i + 6]), "+f"(d[i + 7])
#define HOPPER_F32(i) HOPPER_F8(i), HOPPER_F8(i + 8), HOPPER_F8(i + 16), HOPPER_F8(i + 24)
#define HOPPER_F64 HOPPER_F32(0), HOPPER_F32(32)
#define HOPPER_F96 HOPPER_F64, HOPPER_F32(64)
#define HOPPER_F128 HOPPER_F96, HOPPER_F32(96)

// d (64 x N) = [d +] A (64 x 32 bytes) W^T (N x 32 bytes); A and W as tile_descriptor says. `keep` = 0 drops the old d.
template <int N> struct Product;
#define HOPPER_PRODUCT(N, R, A, W, KEEP)                                                                    \
  template <> struct Product<N> {                                                                          \
    static HOPPER_FN void run(float (&d)[R], u64 a, u64 w, u32 keep) {                                     \
      asm volatile("{ .reg .pred p;\nsetp.ne.b32 p, " KEEP ", 0;\n"                                        \
                   "wgmma.mma_async.sync.aligned.m64n" #N "k16.f32.bf16.bf16 {" HOPPER_D##R "}, " A ", " W \
                   ", p, 1, 1, 0, 0; }"                                                                    \
                   : HOPPER_F##R                                                                           \
                   : "l"(a), "l"(w), "r"(keep));                                                           \
    }                                                                                                      \
  };
HOPPER_PRODUCT(128, 64, "%64", "%65", "%66")
HOPPER_PRODUCT(192, 96, "%96", "%97", "%98")
HOPPER_PRODUCT(256, 128, "%128", "%129", "%130")

}  // namespace hopper
