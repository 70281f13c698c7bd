// The product of two small matrices, whose operands stay in a core's cache: c (+)= a * b.
// Invariant: each element is summed by fused multiply-adds in the order of the steps, wherever it stands in c: so many steps at a time, and then
// those sums. The rounding of one long sum grows with the root of its length, and Winograd's algorithm multiplies it.
#pragma once

#include <algorithm>

#include "vectors.h"

namespace crosstower {

/** The left matrix: element (i, s) is at[i * row + s * step], so that it may lie transposed. */
struct LeftMatrix {
  const float* at;
  long row, step;
};

/** A matrix in rows of whole vectors: element (i, j) is at[i * row + j]. */
template <typename Float>
struct RowMatrix {
  Float* at;
  long row;
};

/** A block of c whose sums all stay in registers: 24 of the 32 at most. */
constexpr int mostRows = 8, mostVectors = 3;

/** A sum so long is kept in registers before it is added to what is in c. */
constexpr long stepsInSum = 48;

template <int rows, int vectors>
AVX512 void multiplyBlock(LeftMatrix a, RowMatrix<const float> b, RowMatrix<float> c, long steps, bool adds) {
  for (long start = 0; start < steps; start += stepsInSum, adds = true) {
    Vector sums[rows][vectors];
#pragma GCC unroll 8
    for (int i = 0; i < rows; i++) {
#pragma GCC unroll 3
      for (int v = 0; v < vectors; v++) sums[i][v] = _mm512_setzero_ps();
    }
    const long end = std::min(steps, start + stepsInSum);
    for (long s = start; s < end; s++) {
      Vector right[vectors];
#pragma GCC unroll 3
      for (int v = 0; v < vectors; v++) right[v] = _mm512_load_ps(b.at + s * b.row + v * lanes);
#pragma GCC unroll 8
      for (int i = 0; i < rows; i++) {
        const Vector left = _mm512_set1_ps(a.at[i * a.row + s * a.step]);
#pragma GCC unroll 3
        for (int v = 0; v < vectors; v++) sums[i][v] = _mm512_fmadd_ps(left, right[v], sums[i][v]);
      }
    }
#pragma GCC unroll 8
    for (int i = 0; i < rows; i++) {
#pragma GCC unroll 3
      for (int v = 0; v < vectors; v++) {
        float* to = c.at + i * c.row + v * lanes;
        _mm512_store_ps(to, adds ? _mm512_add_ps(_mm512_load_ps(to), sums[i][v]) : sums[i][v]);
      }
    }
  }
}

/** multiplyBlock for a number of rows that is known when it runs. */
template <int vectors, int rows = mostRows>
AVX512_INLINE void multiplyRows(int count, LeftMatrix a, RowMatrix<const float> b, RowMatrix<float> c, long steps, bool adds) {
  if constexpr (rows > 0) {
    if (count == rows) multiplyBlock<rows, vectors>(a, b, c, steps, adds);
    else multiplyRows<vectors, rows - 1>(count, a, b, c, steps, adds);
  }
}

/** c [rows, columns] = a [rows, steps] * b [steps, columns], added to c if it `adds`; columns is a multiple of a vector's lanes. */
AVX512 inline void multiply(int rows, int columns, long steps, LeftMatrix a, RowMatrix<const float> b, RowMatrix<float> c, bool adds) {
  for (int column = 0; column < columns; column += mostVectors * lanes) {
    const int vectors = std::min(mostVectors, (columns - column) / lanes);
    const RowMatrix<const float> right{b.at + column, b.row};
    for (int row = 0; row < rows; row += mostRows) {
      const int count = std::min(mostRows, rows - row);
      const LeftMatrix left{a.at + row * a.row, a.row, a.step};
      const RowMatrix<float> block{c.at + row * c.row + column, c.row};
      if (vectors == 3) multiplyRows<3>(count, left, right, block, steps, adds);
      else if (vectors == 2) multiplyRows<2>(count, left, right, block, steps, adds);
      else multiplyRows<1>(count, left, right, block, steps, adds);
    }
  }
}

}  // namespace crosstower
