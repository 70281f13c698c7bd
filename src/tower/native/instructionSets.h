// Loops that the compiler turns into vectors, for whatever the machine has.
// With -ffp-contract=off every choice computes the same numbers.
#pragma once

// One function body, compiled once for each instruction set; the machine picks when the library is loaded.
#define FOR_EACH_INSTRUCTION_SET __attribute__((target_clones("avx512f", "avx2", "default")))
#define INLINE inline __attribute__((always_inline))
