// CUtensorMap for host code, and for NVRTC, which has none of the headers that cuda.h wants.
#pragma once

#ifdef __CUDACC_RTC__
struct alignas(128) CUtensorMap {
  unsigned long long opaque[16];
};
#else
#include <cuda.h>
#endif
