// What the kernels of hopper_attention.cu are given beside their tensor maps. Read by the host
// compiler and by NVRTC.
#pragma once

struct HopperAttentionParams {
  void* out;                   // bf16 [batch, queries, heads, 128], 16-byte aligned
  long long out_batch_stride;  // in elements, multiples of 8; the head stride is 128
  long long out_token_stride;
  float* workspace;  // HOPPER_ATTENTION_WORKSPACE(blocks) bytes; its counters zero before the first
                     // launch
  float scale_log2e;       // scale * log2(e), above 0
  int queries, keys;       // of a batch item, each at least 1
  int heads, batch;        // of the queries
  int group;               // query heads to one head of keys and values
  int split;               // whether tiles may be cut along the keys (the causal kernel never does)
  const int* key_lengths;  // causal kernel only: how many keys of each batch item count (at least
                           // 1), or null for all
};

// Words at the head of the workspace that count the finished pieces of cut tiles. Every launch
// leaves them at zero, so one memset serves for good; launches that may overlap need a workspace
// each.
#define HOPPER_ATTENTION_COUNTERS 4096
// One warpgroup's piece of a cut tile: output not yet normalised, row maxima and row sums, in
// floats.
#define HOPPER_ATTENTION_PIECE ((64 + 4) * 128)
// Bytes of workspace for a launch of `blocks` blocks (at most 512).
#define HOPPER_ATTENTION_WORKSPACE(blocks) \
  (4ll * (HOPPER_ATTENTION_COUNTERS + (blocks)*4ll * HOPPER_ATTENTION_PIECE))

// Launch: as many blocks as the device has multiprocessors (persistent; any number is right), 384
// threads, no cluster. Keys of a block and dynamic shared memory in bytes:
#define HOPPER_ATTENTION_KEYS 192
#define HOPPER_ATTENTION_CAUSAL_KEYS 128
#define HOPPER_ATTENTION_SHARED(keys) ((128 + 4 * (keys)) * 256 + 1280)
// Tensor maps, all bf16: dimensions (128, heads, tokens, batch), 128-byte swizzle, no interleave,
// zeros out of bounds; box (64, 1, 64, 1) for q and (64, 1, keys of a block, 1) for k and v.
