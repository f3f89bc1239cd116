#pragma once

/// Compiles a function several times and picks the copy that the processor can run, at load time.
/// ARM64 needs none of it: its vectors are part of the baseline.
#if defined(__x86_64__) && defined(__GNUC__) && !defined(__clang__) && defined(__gnu_linux__)
#define KLEIN_CLONES __attribute__((target_clones("avx512f", "avx2", "default")))
#else
#define KLEIN_CLONES
#endif

/// What is called inside a loop has to become part of it, or the loop stays scalar.
#define KLEIN_INLINE [[gnu::always_inline]] inline
