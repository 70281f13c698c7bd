// Two TensorFlow ops on maps in NHWC: a convolution, and the gradient of its weights, by Winograd's algorithm (winograd.h).
//   y [N,H',W',K] of x [N,H,W,C] and w [R,R,C,K]; turned, it is the gradient of the input: dx [N,H,W,C] of dy [N,H,W,K] and the same w
// A convolution of stride s is one of stride 1 over blocks of s x s points: x as [H/s, W/s, s*s*C], w with zeros up to a multiple of s.
// Tiles of all the pictures are counted through, and computed in blocks that stay in a core's cache from one transform to the next.
// Invariant: a number depends neither on the number of threads nor on the pictures beside it.

#include <algorithm>
#include <cstdint>
#include <vector>

#include "matrixProduct.h"
#include "sharing.h"
#include "tensorflowOps.h"
#include "winograd.h"

namespace crosstower {
namespace {

constexpr int tilesInBlock = 48;

/**
 * Floats from one element of tiles to the next: a line more than they take, because lines that lie pages apart push each other out of the cache.
 * The last tile's vectors may reach into it (squareToTile).
 */
constexpr long elementFloats(long tiles, int floats) { return tiles * floats + lanes; }

/** A convolution of stride 1 in blocks of points. */
struct Shape {
  long pictures;
  Blocks in;  // x
  Maps out;   // y
  int zerosBefore;
};

/** Where tile `tile` of all the pictures is. */
struct Tile {
  long picture;
  Place place;
};

template <int m>
class Tiling {
 public:
  explicit Tiling(const Maps& out) : across_((out.width + m - 1) / m), inPicture_(across_ * ((out.height + m - 1) / m)) {}
  int inPicture() const { return inPicture_; }
  Tile operator[](long tile) const {
    const int rest = static_cast<int>(tile % inPicture_);
    return {tile / inPicture_, {rest / across_ * m, rest % across_ * m}};
  }

 private:
  const int across_, inPicture_;
};

/** Products that a picture takes for each pair of channels. */
template <int m, int r>
long productsOf(const Maps& out) {
  return static_cast<long>(Tiling<m>(out).inPicture()) * Winograd<m, r>::elements;
}

template <int m, int r>
void convolve(const Shape& shape, const float* x, const float* w, float* y) {
  constexpr int elements = Winograd<m, r>::elements;
  const Tiling<m> tiling(shape.out);
  const int inChannels = shape.in.channels(), inFloats = roundUpToLanes(inChannels), outFloats = roundUpToLanes(shape.out.channels);
  const long uElement = elementFloats(inChannels, outFloats);
  const Floats u = newFloats(elements * uElement);
  weightsToTiles<m, r>(w, inChannels, shape.out.channels, {u.get(), uElement, outFloats});

  const long tiles = shape.pictures * tiling.inPicture();
  const auto computeBlocks = [&](long firstBlock, long endBlock) {
    const long inElement = elementFloats(tilesInBlock, inFloats), outElement = elementFloats(tilesInBlock, outFloats);
    const Floats v = newFloats(elements * inElement), product = newFloats(elements * outElement);
    for (long block = firstBlock; block < endBlock; block++) {
      const long first = block * tilesInBlock;
      const int count = static_cast<int>(std::min<long>(tilesInBlock, tiles - first));
      for (int t = 0; t < count; t++) {
        const auto [picture, place] = tiling[first + t];
        const Place from{place.top - shape.zerosBefore, place.left - shape.zerosBefore};
        mapsToTile<OfInput<m, r>>(shape.in, x + picture * shape.in.maps.floats(), from, 0, inChannels,
                                  {v.get() + t * inFloats, inElement, inFloats});
      }
      for (int e = 0; e < elements; e++) {
        multiply(count, outFloats, inChannels, {v.get() + e * inElement, inFloats, 1}, {u.get() + e * uElement, outFloats},
                 {product.get() + e * outElement, outFloats}, false);
      }
      for (int t = 0; t < count; t++) {
        const auto [picture, place] = tiling[first + t];
        tileToOutput<m, r>({product.get() + t * outFloats, outElement, outFloats}, shape.out, place, y + picture * shape.out.floats());
      }
    }
  };
  share((tiles + tilesInBlock - 1) / tilesInBlock, threadsFor(shape.pictures * shape.out.floats()), computeBlocks);
}

/** dw; threads share the input's channels, so that each sums over all tiles in their order. */
template <int m, int r>
void weightGradient(const Shape& shape, const float* x, const float* dy, float* dw) {
  constexpr int elements = Winograd<m, r>::elements;
  const Tiling<m> tiling(shape.out);
  const int inChannels = shape.in.channels(), outChannels = shape.out.channels, outFloats = roundUpToLanes(outChannels);
  const long tiles = shape.pictures * tiling.inPicture();
  const auto computeChannels = [&](long firstVector, long endVector) {
    const int firstChannel = static_cast<int>(firstVector) * lanes, inFloats = static_cast<int>(endVector - firstVector) * lanes;
    const int endChannel = std::min(inChannels, firstChannel + inFloats), channels = endChannel - firstChannel;
    // The side that fills whole vectors lies in them, the other one in rows: twelve maps of a narrow layer would leave a quarter of each empty.
    const bool isTurned = static_cast<long>(outChannels) * inFloats < static_cast<long>(channels) * outFloats;
    const long inElement = elementFloats(tilesInBlock, inFloats), outElement = elementFloats(tilesInBlock, outFloats);
    const long uElement = isTurned ? elementFloats(outChannels, inFloats) : elementFloats(channels, outFloats);
    const Floats u = newFloats(elements * uElement), v = newFloats(elements * inElement), d = newFloats(elements * outElement);
    for (long first = 0; first < tiles; first += tilesInBlock) {
      const int count = static_cast<int>(std::min<long>(tilesInBlock, tiles - first));
      for (int t = 0; t < count; t++) {
        const auto [picture, place] = tiling[first + t];
        const Place from{place.top - shape.zerosBefore, place.left - shape.zerosBefore};
        mapsToTile<OfInput<m, r>>(shape.in, x + picture * shape.in.maps.floats(), from, firstChannel, endChannel,
                                  {v.get() + t * inFloats, inElement, inFloats});
        mapsToTile<Transposed<OfOutput<m, r>>>({shape.out, 1}, dy + picture * shape.out.floats(), place, 0, outChannels,
                                               {d.get() + t * outFloats, outElement, outFloats});
      }
      for (int e = 0; e < elements; e++) {
        const float *in = v.get() + e * inElement, *out = d.get() + e * outElement;
        float* product = u.get() + e * uElement;
        if (isTurned) multiply(outChannels, inFloats, count, {out, 1, outFloats}, {in, inFloats}, {product, inFloats}, first > 0);
        else multiply(channels, outFloats, count, {in, 1, inFloats}, {out, outFloats}, {product, outFloats}, first > 0);
      }
    }
    if (isTurned) tilesToWeights<m, r>({u.get(), uElement, 1}, inFloats, inChannels, outChannels, firstChannel, endChannel, dw);
    else tilesToWeights<m, r>({u.get(), uElement, outFloats}, 1, inChannels, outChannels, firstChannel, endChannel, dw);
  };
  share(roundUpToLanes(inChannels) / lanes, threadsFor(shape.pictures * shape.out.floats()), computeChannels);
}

/** F(m x m, r x r), as a value. */
template <int outputs, int points>
struct Filtering {
  static constexpr int m = outputs, r = points;
};

/** From so many pairs of channels on, time counts for more than the rounding of larger tiles, which is up to twice that of 3x3. */
constexpr long manyPairs = 256;

template <int r, int larger, typename Compute>
void withTilesFor(const Shape& shape, Compute compute) {
  const bool isWide = static_cast<long>(shape.in.channels()) * shape.out.channels >= manyPairs;
  if (isWide && productsOf<larger, r>(shape.out) < productsOf<3, r>(shape.out)) compute(Filtering<larger, r>());
  else compute(Filtering<3, r>());
}

/** Calls compute(Filtering) with the tiles that suit the layer. */
template <typename Compute>
void withTiles(int r, const Shape& shape, Compute compute) {
  if (r == 3) withTilesFor<3, 5>(shape, compute);
  else withTilesFor<5, 4>(shape, compute);
}

// Weights. w [size,size,C,K]; in blocks of points [r,r,stride*stride*C,K].

/** Calls copy(offset in w, offset in the blocks) for every run of K weights. */
template <typename Copy>
void forEachRun(int size, int stride, int r, int channels, int outChannels, Copy copy) {
  for (int row = 0; row < size; row++) {
    for (int column = 0; column < size; column++) {
      for (int c = 0; c < channels; c++) {
        const long point = static_cast<long>(row / stride) * r + column / stride;
        const long channel = (static_cast<long>(row % stride) * stride + column % stride) * channels + c;
        const long run = (static_cast<long>(row) * size + column) * channels + c;
        copy(run * outChannels, (point * stride * stride * channels + channel) * outChannels);
      }
    }
  }
}

/** w with its points turned by 180 degrees and its channels exchanged: [size,size,K,C]. */
Floats turned(const float* w, int size, int channels, int outChannels) {
  constexpr int side = 16;  // Blocks, so that neither reading nor writing jumps a line at each weight.
  const long points = static_cast<long>(size) * size, matrix = static_cast<long>(channels) * outChannels;
  Floats result = newFloats(points * matrix);
  for (long point = 0; point < points; point++) {
    const float* from = w + point * matrix;
    float* to = result.get() + (points - 1 - point) * matrix;
    for (int c0 = 0; c0 < channels; c0 += side) {
      for (int k0 = 0; k0 < outChannels; k0 += side) {
        for (int k = k0; k < std::min(outChannels, k0 + side); k++) {
          for (int c = c0; c < std::min(channels, c0 + side); c++) to[static_cast<long>(k) * channels + c] = from[static_cast<long>(c) * outChannels + k];
        }
      }
    }
  }
  return result;
}

// TensorFlow's side.

struct Rule {
  int64_t stride = 1;
  int64_t padding = 0;  // Zeros on each side: half the kernel for maps of the input's size, at stride 1 only.
  int64_t turned = 0;   // Of CrosstowerConvolution: 1 for the gradient of its input.
  int64_t size = 0;     // Of CrosstowerConvolutionWeightGrad: the kernel's.
  void read(Attributes& attributes) {
    attributes.read("stride", &stride);
    attributes.read("padding", &padding);
    attributes.read("turned", &turned);
    attributes.read("size", &size);
  }
};

Shape shapeFor(const Rule& rule, int size, const std::vector<int64_t>& x, int outChannels) {
  const int height = static_cast<int>(x[1]), width = static_cast<int>(x[2]), channels = static_cast<int>(x[3]);
  const int stride = static_cast<int>(rule.stride), padding = static_cast<int>(rule.padding);
  const Maps out{(height + 2 * padding - size) / stride + 1, (width + 2 * padding - size) / stride + 1, outChannels};
  return {x[0], {{height, width, channels}, stride}, out, padding};
}

void requireKnown(Call& call, const Rule& rule, int64_t size, const std::vector<int64_t>& x) {
  const int64_t r = rule.stride > 0 ? (size + rule.stride - 1) / rule.stride : 0;
  call.require(x[0] > 0, "there must be pictures");
  call.require(r == 3 || r == 5, "the kernel must be 3 or 5 strides wide");
  call.require(rule.padding == 0 || (rule.stride == 1 && rule.padding == size / 2), "the padding must be none, or half the kernel at stride 1");
  call.require(rule.turned == 0 || rule.padding > 0, "the input's gradient needs maps of the same size");
  call.require(x[1] + 2 * rule.padding >= size && x[2] + 2 * rule.padding >= size, "the maps must not be smaller than the kernel");
}

void computeConvolution(void* node, TF_OpKernelContext* context) {
  const Rule& rule = *static_cast<Rule*>(node);
  Call call(context);
  const Tensor x = call.input(0), w = call.input(1);
  if (!call.isGood()) return;
  const auto xShape = shapeOf(x), wShape = shapeOf(w);
  call.require(xShape.size() == 4 && wShape.size() == 4 && wShape[0] == wShape[1], "x must have the shape [N,H,W,C], w [R,R,C,K]");
  if (!call.isGood()) return;
  const int size = static_cast<int>(wShape[0]), channels = static_cast<int>(wShape[2]), outChannels = static_cast<int>(wShape[3]);
  call.require(xShape[3] == (rule.turned ? outChannels : channels), "x and w must have the same channels");
  requireKnown(call, rule, size, xShape);
  if (!call.isGood()) return;

  const Shape shape = shapeFor(rule, size, xShape, rule.turned ? channels : outChannels);
  const Tensor y = call.output(0, {shape.pictures, shape.out.height, shape.out.width, shape.out.channels});
  if (!call.isGood()) return;
  const int r = (size + shape.in.stride - 1) / shape.in.stride;
  Floats changed;
  if (rule.turned) changed = turned(floatsOf(w), size, channels, outChannels);
  if (shape.in.stride > 1) {
    const long floats = static_cast<long>(r) * r * shape.in.channels() * outChannels;
    changed = newFloats(floats);
    std::fill_n(changed.get(), floats, 0.0f);
    forEachRun(size, shape.in.stride, r, channels, outChannels,
               [&](long from, long to) { std::copy_n(floatsOf(w) + from, outChannels, changed.get() + to); });
  }
  const float* weights = changed ? changed.get() : floatsOf(w);
  withTiles(r, shape, [&](auto f) { convolve<f.m, f.r>(shape, floatsOf(x), weights, floatsOf(y)); });
}

void computeWeightGradient(void* node, TF_OpKernelContext* context) {
  const Rule& rule = *static_cast<Rule*>(node);
  Call call(context);
  const Tensor x = call.input(0), dy = call.input(1);
  if (!call.isGood()) return;
  const auto xShape = shapeOf(x), dyShape = shapeOf(dy);
  call.require(xShape.size() == 4 && dyShape.size() == 4, "x must have the shape [N,H,W,C], dy [N,H',W',K]");
  if (!call.isGood()) return;
  requireKnown(call, rule, rule.size, xShape);
  if (!call.isGood()) return;
  const int size = static_cast<int>(rule.size), channels = static_cast<int>(xShape[3]), outChannels = static_cast<int>(dyShape[3]);
  const Shape shape = shapeFor(rule, size, xShape, outChannels);
  call.require(dyShape == std::vector<int64_t>({shape.pictures, shape.out.height, shape.out.width, outChannels}), "dy must have the shape of y");
  if (!call.isGood()) return;

  const Tensor dw = call.output(0, {size, size, channels, outChannels});
  if (!call.isGood()) return;
  const int r = (size + shape.in.stride - 1) / shape.in.stride;
  const auto compute = [&](float* result) {
    withTiles(r, shape, [&](auto f) { weightGradient<f.m, f.r>(shape, floatsOf(x), floatsOf(dy), result); });
  };
  if (shape.in.stride == 1) return compute(floatsOf(dw));
  const Floats inBlocks = newFloats(static_cast<long>(r) * r * shape.in.channels() * outChannels);
  compute(inBlocks.get());
  forEachRun(size, shape.in.stride, r, channels, outChannels,
             [&](long to, long from) { std::copy_n(inBlocks.get() + from, outChannels, floatsOf(dw) + to); });
}

const std::vector<const char*> attributes = {"stride: int", "padding: int", "turned: int = 0", "size: int = 0"};

/** Both are registered when the library is loaded, where the machine can run them. */
[[maybe_unused]] const bool registered = [] {
  if (!__builtin_cpu_supports("avx512f")) return false;
  registerOp<Rule>({"CrosstowerConvolution", {"x: float", "w: float"}, {"y: float"}, attributes, computeConvolution});
  registerOp<Rule>({"CrosstowerConvolutionWeightGrad", {"x: float", "dy: float"}, {"dw: float"}, attributes, computeWeightGradient});
  return true;
}();

}  // namespace
}  // namespace crosstower
