// Two TensorFlow ops, one pass over memory each: bias, ReLU and local response normalisation (paper, sections 3.1 and 3.3), and the way back.
//   a = max(z + b, 0), u = bias + alpha * (sum of a^2 over a map and two neighbours on each side), y = a * u^-0.75
//   da = dy * u^-0.75 - 2 * 0.75 * alpha * a * (sum over the same neighbours of dy * a * u^-1.75), dz = da where a > 0, db = sum of dz
// Maps are rows [R,C], R = N*H*W, and a block of rows is one run of floats, so that a row may have any length without a rest that does not
// fill a vector: the sum over neighbours takes them from the run, and masks what belongs to another row. Every step of it is a loop over the
// block of its own, because a load that straddles what was just stored waits for it.
// Invariant: the numbers depend neither on the number of threads nor on the instruction set: sums go by fixed parts of the rows, and
// -ffp-contract=off keeps multiplications and additions apart.

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <vector>

#include "instructionSets.h"
#include "rowParts.h"
#include "tensorflowOps.h"

namespace crosstower {
namespace {

constexpr int radius = 2;

struct Rule {
  float bias = 0;
  float alpha = 0;
  void read(Attributes& attributes) {
    attributes.read("bias", &bias);
    attributes.read("alpha", &alpha);
  }
};

/** A block of rows: how many, and for each of its places which neighbours are of the same row. */
class Block {
 public:
  explicit Block(int channels)
      : channels(channels),
        rows(rowsInRun(channels)),
        floats_(rows * channels),
        masks_(4 * static_cast<size_t>(floats_)) {
    for (int i = 0; i < floats_; i++) {
      const int c = i % channels;
      const bool isThere[] = {c >= 2, c >= 1, c + 1 < channels, c + 2 < channels};
      for (int k = 0; k < 4; k++) masks_[static_cast<size_t>(k) * floats_ + i] = isThere[k] ? -1 : 0;
    }
  }
  /** Memory for one value at each place, with zeros around it. */
  std::vector<float> scratch() const { return std::vector<float>(around + floats_ + around); }
  const int32_t* mask(int neighbour) const { return masks_.data() + static_cast<size_t>(neighbour) * floats_; }
  static constexpr int around = 16;
  const int channels;
  const int rows;

 private:
  const int floats_;
  std::vector<int32_t> masks_;
};

INLINE float masked(float value, int32_t mask) {
  int32_t bits;
  std::memcpy(&bits, &value, sizeof bits);
  bits &= mask;
  std::memcpy(&value, &bits, sizeof bits);
  return value;
}

/** Sums over each place's neighbours in its row; `values` has zeros around it. */
FOR_EACH_INSTRUCTION_SET
void sumOverNeighbours(const Block& block, const float* __restrict values, float* __restrict sums, int floats) {
  static_assert(radius == 2);
  const int32_t* __restrict before2 = block.mask(0);
  const int32_t* __restrict before1 = block.mask(1);
  const int32_t* __restrict after1 = block.mask(2);
  const int32_t* __restrict after2 = block.mask(3);
  for (int i = 0; i < floats; i++) {
    const float far = masked(values[i - 2], before2[i]) + masked(values[i + 2], after2[i]);
    const float near = masked(values[i - 1], before1[i]) + masked(values[i + 1], after1[i]);
    sums[i] = (far + near) + values[i];
  }
}

struct Powers {
  float inverse;  // 1 / u
  float scale;    // u^-0.75
};

INLINE Powers powersOf(float u) {
  const float inverse = 1.0f / u;
  const float root = std::sqrt(inverse);
  return {inverse, root * std::sqrt(root)};
}

struct Forward {
  const float *z, *b;
  float *a, *y;
};

FOR_EACH_INSTRUCTION_SET
void forward(Rule rule, const Block& block, Forward t, long firstRow, long endRow) {
  const int channels = block.channels;
  const std::vector<float> biases = forARun(t.b, channels);
  std::vector<float> squares = block.scratch(), sums = block.scratch();
  const float* __restrict bias = biases.data();
  float* __restrict square = squares.data() + Block::around;
  float* __restrict sum = sums.data();
  for (long start = firstRow; start < endRow; start += block.rows) {
    const int floats = static_cast<int>(std::min<long>(block.rows, endRow - start)) * channels;
    const float* __restrict z = t.z + start * channels;
    float* __restrict a = t.a + start * channels;
    float* __restrict y = t.y + start * channels;
    for (int i = 0; i < floats; i++) {
      const float biased = z[i] + bias[i];
      const float active = biased < 0 ? 0 : biased;  // So written, it lets a NaN through.
      a[i] = active;
      square[i] = active * active;
    }
    sumOverNeighbours(block, square, sum, floats);
    for (int i = 0; i < floats; i++) y[i] = a[i] * powersOf(rule.bias + rule.alpha * sum[i]).scale;
  }
}

struct Backward {
  const float *dy, *a;
  float* dz;
};

/** Adds the rows' part of db to `db`. */
FOR_EACH_INSTRUCTION_SET
void backward(Rule rule, const Block& block, Backward t, long firstRow, long endRow, double* db) {
  const int channels = block.channels;
  std::vector<float> squares = block.scratch(), products = block.scratch();  // dy * a * u^-1.75
  std::vector<float> scales(block.rows * channels), overNeighbours = block.scratch(), totals(channels);
  const float slope = 2 * 0.75f * rule.alpha;
  float* __restrict square = squares.data() + Block::around;
  float* __restrict product = products.data() + Block::around;
  float* __restrict scale = scales.data();
  float* __restrict sum = overNeighbours.data();
  float* __restrict total = totals.data();
  for (long start = firstRow; start < endRow; start += block.rows) {
    const int rows = static_cast<int>(std::min<long>(block.rows, endRow - start));
    const int floats = rows * channels;
    const float* __restrict a = t.a + start * channels;
    const float* __restrict dy = t.dy + start * channels;
    float* __restrict dz = t.dz + start * channels;
    for (int i = 0; i < floats; i++) square[i] = a[i] * a[i];
    sumOverNeighbours(block, square, sum, floats);
    for (int i = 0; i < floats; i++) {
      const Powers of = powersOf(rule.bias + rule.alpha * sum[i]);
      scale[i] = dy[i] * of.scale;
      product[i] = scale[i] * a[i] * of.inverse;
    }
    sumOverNeighbours(block, product, sum, floats);
    for (int i = 0; i < floats; i++) {
      const float da = scale[i] - slope * a[i] * sum[i];
      dz[i] = a[i] <= 0 ? 0 : da;
    }
    addRows(dz, rows, channels, total, db);
  }
}

void computeForward(void* rule, TF_OpKernelContext* context) {
  Call call(context);
  const Tensor z = call.input(0), b = call.input(1);
  if (!call.isGood()) return;
  const auto shape = shapeOf(z), biasShape = shapeOf(b);
  call.require(shape.size() == 4 && shape[3] > 0, "z must have the shape [N,H,W,C]");
  call.require(biasShape.size() == 1 && shape.back() == biasShape[0], "b must have one value for each of z's maps");
  if (!call.isGood()) return;
  const Tensor a = call.output(0, shape), y = call.output(1, shape);
  if (!call.isGood()) return;
  const Block block(static_cast<int>(shape[3]));
  forEachPart(shape[0] * shape[1] * shape[2], block.channels, [&](long, long firstRow, long endRow) {
    forward(*static_cast<Rule*>(rule), block, {floatsOf(z), floatsOf(b), floatsOf(a), floatsOf(y)}, firstRow, endRow);
  });
}

void computeBackward(void* rule, TF_OpKernelContext* context) {
  Call call(context);
  const Tensor dy = call.input(0), a = call.input(1);
  if (!call.isGood()) return;
  const auto shape = shapeOf(a);
  call.require(shape.size() == 4 && shape[3] > 0, "a must have the shape [N,H,W,C]");
  call.require(shapeOf(dy) == shape, "dy must have the shape of a");
  if (!call.isGood()) return;
  const Tensor dz = call.output(0, shape), db = call.output(1, {shape[3]});
  if (!call.isGood()) return;
  const Block block(static_cast<int>(shape[3]));
  sumOverParts(shape[0] * shape[1] * shape[2], block.channels, floatsOf(db), [&](long firstRow, long endRow, double* sums) {
    backward(*static_cast<Rule*>(rule), block, {floatsOf(dy), floatsOf(a), floatsOf(dz)}, firstRow, endRow, sums);
  });
}

const std::vector<const char*> attributes = {"bias: float", "alpha: float"};

/** Both are registered when the library is loaded. */
[[maybe_unused]] const bool registered = [] {
  registerOp<Rule>({"CrosstowerNormalisedActivation", {"z: float", "b: float"}, {"a: float", "y: float"}, attributes, computeForward});
  registerOp<Rule>({"CrosstowerNormalisedActivationGrad", {"dy: float", "a: float"}, {"dz: float", "db: float"}, attributes, computeBackward});
  return true;
}();

}  // namespace
}  // namespace crosstower
