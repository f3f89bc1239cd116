#include "klein/ops/cpu/tile.h"

namespace klein::ops::native {

namespace baseline {

#define KLEIN_TARGET
#ifdef __aarch64__
constexpr int kVector = 4, kSums = 24;  // of 32 registers
#else
constexpr int kVector = 4, kSums = 12;  // of 16 registers
#endif
#include "klein/ops/cpu/tile.inl"
#undef KLEIN_TARGET

constexpr Tile kTile = {kVector, multiply, absorb};

}  // namespace baseline

#ifdef __x86_64__

namespace avx2 {

#define KLEIN_TARGET __attribute__((target("avx2,fma")))
constexpr int kVector = 8, kSums = 12;
#include "klein/ops/cpu/tile.inl"
#undef KLEIN_TARGET

constexpr Tile kTile = {kVector, multiply, absorb};

}  // namespace avx2

namespace avx512 {

#define KLEIN_TARGET __attribute__((target("avx512f")))
constexpr int kVector = 16, kSums = 24;
#include "klein/ops/cpu/tile.inl"
#undef KLEIN_TARGET

constexpr Tile kTile = {kVector, multiply, absorb};

}  // namespace avx512

const Tile& tile() {
  if (__builtin_cpu_supports("avx512f")) return avx512::kTile;
  if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma")) return avx2::kTile;
  return baseline::kTile;
}

#else

const Tile& tile() {
  return baseline::kTile;
}

#endif

}  // namespace klein::ops::native
