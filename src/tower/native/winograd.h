// Winograd's minimal filtering F(m x m, r x r) (Lavin and Gray, "Fast Algorithms for Convolutional Neural Networks", 2015): what a kernel w of
// r x r makes of a tile x of a x a, a = m + r - 1, is a tile of m x m,
//   y = A^T [ (G w G^T) . (B^T x B) ] A
// with a product element by element. Over channels and tiles that is one matrix product for each of the a^2 elements, and a^2 multiplications
// where the sums take m^2 r^2. A convolution's gradients are the transposes of the same three matrices.
// Here are the matrices, and each of them over maps in NHWC: tiles lie as [a^2][tile][channel], channels padded to whole vectors.
#pragma once

#include <algorithm>

#include "vectors.h"

namespace crosstower {

struct Maps {
  int height, width, channels;
  long floats() const { return static_cast<long>(height) * width * channels; }
};

/** Maps as a convolution of a stride sees them: a point is a block of stride x stride of theirs, row by row, with stride * stride * C channels. */
struct Blocks {
  Maps maps;
  int stride;
  /** Channels of a block that lie in one row of the maps, one behind the other. */
  int inRow() const { return stride * maps.channels; }
  int channels() const { return stride * inRow(); }
};

/** The matrices, by Toom and Cook: polynomials are multiplied by their values at a - 1 points and at infinity. */
template <int m, int r>
struct Winograd {
  static constexpr int a = m + r - 1, elements = a * a;
  // Few and simple, with their reciprocals: the fp32 rounding of a result is then 3 (a = 5) to 6 times (a = 7 and 8) that of the plain sum.
  static constexpr double points[] = {0, 1, -1, 2, -2, 0.5, -0.5};
  static_assert(a - 1 <= static_cast<int>(sizeof points / sizeof points[0]));
  double bT[a][a] = {}, g[a][r] = {}, aT[m][a] = {};

  constexpr Winograd() {
    for (int i = 0; i < a; i++) {
      const bool isInfinity = i == a - 1;
      // The product of (x - p) over the other points, lowest power first, and its value here.
      double product[a] = {1}, value = 1;
      int degree = 0;
      for (int j = 0; j < a - 1; j++) {
        if (j == i) continue;
        degree++;
        for (int k = degree; k >= 0; k--) product[k] = (k > 0 ? product[k - 1] : 0) - points[j] * product[k];
        if (!isInfinity) value *= points[i] - points[j];
      }
      for (int k = 0; k < a; k++) bT[i][k] = product[k];
      for (int k = 0; k < r; k++) g[i][k] = (isInfinity ? k == r - 1 : power(points[i], k)) / value;
      for (int k = 0; k < m; k++) aT[k][i] = isInfinity ? k == m - 1 : power(points[i], k);
    }
  }

 private:
  static constexpr double power(double x, int exponent) { return exponent == 0 ? 1 : x * power(x, exponent - 1); }
};

template <int m, int r>
inline constexpr Winograd<m, r> winograd{};

// The matrices as functions of two indices, so that a product with one is written out at compile time, without its zeros.
template <int m, int r>
struct OfInput {
  static constexpr int rows = m + r - 1, columns = m + r - 1;
  static constexpr double at(int i, int j) { return winograd<m, r>.bT[i][j]; }
};
template <int m, int r>
struct OfWeights {
  static constexpr int rows = m + r - 1, columns = r;
  static constexpr double at(int i, int j) { return winograd<m, r>.g[i][j]; }
};
template <int m, int r>
struct OfOutput {
  static constexpr int rows = m, columns = m + r - 1;
  static constexpr double at(int i, int j) { return winograd<m, r>.aT[i][j]; }
};
template <typename Matrix>
struct Transposed {
  static constexpr int rows = Matrix::columns, columns = Matrix::rows;
  static constexpr double at(int i, int j) { return Matrix::at(j, i); }
};

/** out[i] = sum over j of M[i][j] * in[j]. */
template <typename Matrix>
AVX512_INLINE void multiplyBy(const Vector* in, Vector* out) {
#pragma GCC unroll 8
  for (int i = 0; i < Matrix::rows; i++) {
    Vector sum = _mm512_setzero_ps();
    bool isEmpty = true;
#pragma GCC unroll 8
    for (int j = 0; j < Matrix::columns; j++) {
      const float factor = static_cast<float>(Matrix::at(i, j));
      if (factor == 0) continue;
      if (isEmpty) sum = factor == 1 ? in[j] : _mm512_mul_ps(in[j], _mm512_set1_ps(factor));
      else if (factor == 1) sum = _mm512_add_ps(sum, in[j]);
      else if (factor == -1) sum = _mm512_sub_ps(sum, in[j]);
      else sum = _mm512_fmadd_ps(in[j], _mm512_set1_ps(factor), sum);
      isEmpty = false;
    }
    out[i] = sum;
  }
}

/** M X M^T of a square X whose vectors load(i, j) gives, each of them once; store(i, j, vector) takes those of the result. */
template <typename Matrix, typename Load, typename Store>
AVX512_INLINE void transform(Load load, Store store) {
  constexpr int rows = Matrix::rows, columns = Matrix::columns;
  Vector half[rows][columns];
#pragma GCC unroll 8
  for (int j = 0; j < columns; j++) {
    Vector in[columns], out[rows];
#pragma GCC unroll 8
    for (int i = 0; i < columns; i++) in[i] = load(i, j);
    multiplyBy<Matrix>(in, out);
#pragma GCC unroll 8
    for (int i = 0; i < rows; i++) half[i][j] = out[i];
  }
#pragma GCC unroll 8
  for (int i = 0; i < rows; i++) {
    Vector out[rows];
    multiplyBy<Matrix>(half[i], out);
#pragma GCC unroll 8
    for (int j = 0; j < rows; j++) store(i, j, out[j]);
  }
}

/** Tiles in memory: element e of tile t has its channels at[e * element + t * row]. */
template <typename Float>
struct Tiles {
  Float* at;
  long element, row;
};

/** Where a tile stands, in blocks; what is outside of its maps is zero, or not written. */
struct Place {
  int top, left;
};

/** Whether all of a square of blocks is in the maps. */
inline bool isWithin(const Blocks& blocks, Place place, int side) {
  const auto& [maps, stride] = blocks;
  return place.top >= 0 && place.left >= 0 && (place.top + side) * stride <= maps.height && (place.left + side) * stride <= maps.width;
}

inline long offsetOf(const Maps& maps, int row, int column) { return (static_cast<long>(row) * maps.width + column) * maps.channels; }

/**
 * M X M^T of the square X of blocks at `place`, for the channels from `first` to `end`. Of a square within the maps no point is asked whether it is.
 * Whole vectors are written: the lanes behind a row's last channel are zero, and the next row's or the next tile's to write.
 */
template <typename Matrix, bool isWithin>
AVX512_INLINE void squareToTile(const Blocks& blocks, const float* x, Place place, int first, int end, Tiles<float> tile) {
  const Maps& maps = blocks.maps;
  const int stride = blocks.stride;
  const int top = place.top * stride, left = place.left * stride;
  for (int channel = first, floats; channel < end; channel += floats) {
    const int row = channel / blocks.inRow(), inRow = channel % blocks.inRow();
    floats = std::min({lanes, blocks.inRow() - inRow, end - channel});
    const __mmask16 all = laneMask(floats, 0);
    __mmask16 inRows[Matrix::columns], inColumns[Matrix::columns];
    for (int i = 0; i < Matrix::columns; i++) {
      const int y = top + i * stride + row, column = left + i * stride;
      const int there = column >= 0 ? (maps.width - column) * maps.channels - inRow : 0;
      inRows[i] = y >= 0 && y < maps.height ? all : 0;
      inColumns[i] = there >= floats ? all : there > 0 ? laneMask(there, 0) : 0;
    }
    const float* from = x + offsetOf(maps, top + row, left) + inRow;
    float* to = tile.at + channel - first;
    transform<Matrix>(
        [&](int i, int j) AVX512 {
          const __mmask16 mask = isWithin ? all : inRows[i] & inColumns[j];
          return _mm512_maskz_loadu_ps(mask, from + offsetOf(maps, i * stride, j * stride));
        },
        [&](int i, int j, Vector value) AVX512 { _mm512_storeu_ps(to + (i * Matrix::rows + j) * tile.element, value); });
  }
}

/** One tile of B^T x B (`Matrix` OfInput), or of A dy A^T (Transposed OfOutput), for the channels from `first` to `end`; tiles in their order. */
template <typename Matrix>
AVX512 void mapsToTile(const Blocks& blocks, const float* x, Place place, int first, int end, Tiles<float> tile) {
  if (isWithin(blocks, place, Matrix::columns)) squareToTile<Matrix, true>(blocks, x, place, first, end, tile);
  else squareToTile<Matrix, false>(blocks, x, place, first, end, tile);
}

/** One tile of y = A^T M A. */
template <int m, int r>
AVX512 void tileToOutput(Tiles<const float> tile, const Maps& maps, Place place, float* y) {
  using Matrix = OfOutput<m, r>;
  for (int channel = 0; channel < maps.channels; channel += lanes) {
    const __mmask16 mask = laneMask(maps.channels, channel);
    const float* from = tile.at + channel;
    float* to = y + offsetOf(maps, place.top, place.left) + channel;
    transform<Matrix>([&](int i, int j) AVX512 { return _mm512_load_ps(from + (i * Matrix::columns + j) * tile.element); },
                      [&](int i, int j, Vector value) AVX512 {
                        if (place.top + i < maps.height && place.left + j < maps.width) _mm512_mask_storeu_ps(to + offsetOf(maps, i, j), mask, value);
                      });
  }
}

/** U = G w G^T of every pair of channels: w [r,r,C,K], a tile for each c. */
template <int m, int r>
AVX512 void weightsToTiles(const float* w, int inChannels, int outChannels, Tiles<float> u) {
  using Matrix = OfWeights<m, r>;
  for (int c = 0; c < inChannels; c++) {
    for (int k = 0; k < outChannels; k += lanes) {
      const __mmask16 mask = laneMask(outChannels, k);
      const float* from = w + static_cast<long>(c) * outChannels + k;
      float* to = u.at + c * u.row + k;
      transform<Matrix>(
          [&](int i, int j) AVX512 { return _mm512_maskz_loadu_ps(mask, from + static_cast<long>(i * r + j) * inChannels * outChannels); },
          [&](int i, int j, Vector value) AVX512 { _mm512_store_ps(to + (i * Matrix::rows + j) * u.element, value); });
    }
  }
}

/**
 * dw = G^T dU G, the transpose of weightsToTiles, for the in-channels from `first` to `end`; tile 0 of u is the first's, and its out-channels
 * are `step` floats apart.
 */
template <int m, int r>
AVX512 void tilesToWeights(Tiles<const float> u, int step, int inChannels, int outChannels, int first, int end, float* dw) {
  using Matrix = Transposed<OfWeights<m, r>>;
  const __m512i places = _mm512_mullo_epi32(_mm512_set1_epi32(step), _mm512_set_epi32(15, 14, 13, 12, 11, 10, 9, 8, 7, 6, 5, 4, 3, 2, 1, 0));
  for (int c = first; c < end; c++) {
    for (int k = 0; k < outChannels; k += lanes) {
      const __mmask16 mask = laneMask(outChannels, k);
      const float* from = u.at + (c - first) * u.row + static_cast<long>(k) * step;
      float* to = dw + static_cast<long>(c) * outChannels + k;
      transform<Matrix>(
          [&](int i, int j) AVX512 {
            const float* element = from + (i * Matrix::columns + j) * u.element;
            if (step == 1) return _mm512_load_ps(element);
            return _mm512_mask_i32gather_ps(_mm512_setzero_ps(), mask, places, element, sizeof(float));
          },
          [&](int i, int j, Vector value) AVX512 { _mm512_mask_storeu_ps(to + static_cast<long>(i * r + j) * inChannels * outChannels, mask, value); });
    }
  }
}

}  // namespace crosstower
