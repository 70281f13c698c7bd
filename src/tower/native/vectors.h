// Vectors of AVX-512: one function attribute, whole vectors and parts of them, aligned memory. What includes this runs where the machine has it.
#pragma once

#include <immintrin.h>

#include <memory>
#include <new>

// By function and not by file, so that nothing of the standard library is compiled for a machine that another one's loader may pick.
#define AVX512 __attribute__((target("avx512f")))
#define AVX512_INLINE inline __attribute__((always_inline, target("avx512f")))

namespace crosstower {

using Vector = __m512;
constexpr int lanes = 16;  // Floats in a vector.

constexpr int roundUpToLanes(int count) { return (count + lanes - 1) / lanes * lanes; }

/** Which lanes hold channels, in the vector that begins at channel `first` of `channels`. */
AVX512_INLINE __mmask16 laneMask(int channels, int first) {
  const int left = channels - first;
  return left >= lanes ? 0xffff : static_cast<__mmask16>((1 << left) - 1);
}

struct FreeFloats {
  void operator()(float* floats) const { ::operator delete[](floats, std::align_val_t(sizeof(Vector))); }
};
using Floats = std::unique_ptr<float[], FreeFloats>;

/** Memory for floats, aligned to vectors, of no particular value. */
inline Floats newFloats(long count) {
  return Floats(static_cast<float*>(::operator new[](count * sizeof(float), std::align_val_t(sizeof(Vector)))));
}

}  // namespace crosstower
