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

/** The matrices, by Toom and Cook: polynomials are multiplied by their values at a - 1 points and at infinity. */
template <int m, int r>
struct Winograd {
  static constexpr int a = m + r - 1, elements = a * a;
  // Few and simple, with their reciprocals: the fp32 rounding of a result is then 3 (a = 5) to 5 times (a = 7) that of the plain sum.
  static constexpr double points[] = {0, 1, -1, 2, -2, 0.5};
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

/** out[i * stride] = sum over j of M[i][j] * in[j * stride]. */
template <typename Matrix, int stride>
AVX512_INLINE void multiplyBy(const Vector* in, Vector* out) {
#pragma GCC unroll 8
  for (int i = 0; i < Matrix::rows; i++) {
    Vector sum = _mm512_setzero_ps();
    bool isEmpty = true;
#pragma GCC unroll 8
    for (int j = 0; j < Matrix::columns; j++) {
      const float factor = static_cast<float>(Matrix::at(i, j));
      if (factor == 0) continue;
      const Vector value = in[j * stride];
      if (isEmpty) sum = factor == 1 ? value : _mm512_mul_ps(value, _mm512_set1_ps(factor));
      else if (factor == 1) sum = _mm512_add_ps(sum, value);
      else if (factor == -1) sum = _mm512_sub_ps(sum, value);
      else sum = _mm512_fmadd_ps(value, _mm512_set1_ps(factor), sum);
      isEmpty = false;
    }
    out[i * stride] = sum;
  }
}

/** out = M in M^T, both square and in rows. */
template <typename Matrix>
AVX512_INLINE void transform(const Vector* in, Vector* out) {
  constexpr int rows = Matrix::rows, columns = Matrix::columns;
  Vector half[rows * columns];
#pragma GCC unroll 8
  for (int j = 0; j < columns; j++) multiplyBy<Matrix, columns>(in + j, half + j);
#pragma GCC unroll 8
  for (int i = 0; i < rows; i++) {
    Vector row[rows];
    multiplyBy<Matrix, 1>(half + i * columns, row);
#pragma GCC unroll 8
    for (int j = 0; j < rows; j++) out[i * rows + j] = row[j];
  }
}

/** Tiles in memory: element e of tile t has its channels at[e * element + t * row]. */
template <typename Float>
struct Tiles {
  Float* at;
  long element, row;
};

/** Where a tile stands in its maps; what is outside of them is zero, or not written. */
struct Place {
  int top, left;
};

/** A square of the maps at `place`, side * side vectors of channels. */
template <int side>
AVX512_INLINE void loadSquare(const Maps& maps, const float* x, Place place, int channel, Vector* square) {
  const __mmask16 mask = laneMask(maps.channels, channel);
#pragma GCC unroll 8
  for (int i = 0; i < side; i++) {
    const int row = place.top + i;
#pragma GCC unroll 8
    for (int j = 0; j < side; j++) {
      const int column = place.left + j;
      const bool isInside = row >= 0 && row < maps.height && column >= 0 && column < maps.width;
      const long offset = (static_cast<long>(row) * maps.width + column) * maps.channels + channel;
      square[i * side + j] = _mm512_maskz_loadu_ps(isInside ? mask : 0, x + offset);
    }
  }
}

template <int count>
AVX512_INLINE void storeElements(const Vector* elements, Tiles<float> tiles, int channel) {
#pragma GCC unroll 64
  for (int e = 0; e < count; e++) _mm512_store_ps(tiles.at + e * tiles.element + channel, elements[e]);
}

template <int count>
AVX512_INLINE void loadElements(Tiles<const float> tiles, int channel, Vector* elements) {
#pragma GCC unroll 64
  for (int e = 0; e < count; e++) elements[e] = _mm512_load_ps(tiles.at + e * tiles.element + channel);
}

/** One tile of B^T x B, of the channels from `first` to `end`. */
template <int m, int r>
AVX512 void inputToTile(const Maps& maps, const float* x, Place place, int first, int end, Tiles<float> tile) {
  using Matrix = OfInput<m, r>;
  for (int channel = first; channel < end; channel += lanes) {
    Vector in[Matrix::columns * Matrix::columns], out[Matrix::rows * Matrix::rows];
    loadSquare<Matrix::columns>(maps, x, place, channel, in);
    transform<Matrix>(in, out);
    storeElements<Matrix::rows * Matrix::rows>(out, tile, channel - first);
  }
}

/** One tile of A dy A^T, which is the transpose of tileToOutput. */
template <int m, int r>
AVX512 void gradientToTile(const Maps& maps, const float* dy, Place place, Tiles<float> tile) {
  using Matrix = Transposed<OfOutput<m, r>>;
  for (int channel = 0; channel < maps.channels; channel += lanes) {
    Vector in[Matrix::columns * Matrix::columns], out[Matrix::rows * Matrix::rows];
    loadSquare<Matrix::columns>(maps, dy, place, channel, in);
    transform<Matrix>(in, out);
    storeElements<Matrix::rows * Matrix::rows>(out, tile, channel);
  }
}

/** One tile of y = A^T M A. */
template <int m, int r>
AVX512 void tileToOutput(Tiles<const float> tile, const Maps& maps, Place place, float* y) {
  using Matrix = OfOutput<m, r>;
  for (int channel = 0; channel < maps.channels; channel += lanes) {
    const __mmask16 mask = laneMask(maps.channels, channel);
    Vector in[Matrix::columns * Matrix::columns], out[m * m];
    loadElements<Matrix::columns * Matrix::columns>(tile, channel, in);
    transform<Matrix>(in, out);
#pragma GCC unroll 8
    for (int i = 0; i < m; i++) {
#pragma GCC unroll 8
      for (int j = 0; j < m; j++) {
        if (place.top + i >= maps.height || place.left + j >= maps.width) continue;
        const long offset = (static_cast<long>(place.top + i) * maps.width + place.left + j) * maps.channels + channel;
        _mm512_mask_storeu_ps(y + offset, mask, out[i * m + j]);
      }
    }
  }
}

/** U = G w G^T of every pair of channels: w [r,r,C,K], a "tile" for each c. */
template <int m, int r>
AVX512 void weightsToTiles(int inChannels, int outChannels, const float* w, Tiles<float> u) {
  using Matrix = OfWeights<m, r>;
  for (int c = 0; c < inChannels; c++) {
    for (int k = 0; k < outChannels; k += lanes) {
      const __mmask16 mask = laneMask(outChannels, k);
      Vector in[r * r], out[Matrix::rows * Matrix::rows];
      for (int e = 0; e < r * r; e++) in[e] = _mm512_maskz_loadu_ps(mask, w + (static_cast<long>(e) * inChannels + c) * outChannels + k);
      transform<Matrix>(in, out);
      storeElements<Matrix::rows * Matrix::rows>(out, {u.at + c * u.row, u.element, u.row}, k);
    }
  }
}

/** dw = G^T dU G, the transpose of weightsToTiles, for the in-channels from `first` to `end`; tile 0 of u is the first's. */
template <int m, int r>
AVX512 void tilesToWeights(Tiles<const float> u, int inChannels, int outChannels, int first, int end, float* dw) {
  using Matrix = Transposed<OfWeights<m, r>>;
  for (int c = first; c < end; c++) {
    for (int k = 0; k < outChannels; k += lanes) {
      const __mmask16 mask = laneMask(outChannels, k);
      Vector in[Matrix::columns * Matrix::columns], out[r * r];
      loadElements<Matrix::columns * Matrix::columns>({u.at + (c - first) * u.row, u.element, u.row}, k, in);
      transform<Matrix>(in, out);
      for (int e = 0; e < r * r; e++) _mm512_mask_storeu_ps(dw + (static_cast<long>(e) * inChannels + c) * outChannels + k, mask, out[e]);
    }
  }
}

}  // namespace crosstower
