// Two TensorFlow ops, one pass over memory each: bias and ReLU (paper, section 3.1), and the way back. Of any shape [N,...,C], as rows [R,C].
//   y = max(z + b, 0); dz = dy where y > 0, else 0; db = sum of dz
// Invariant: the numbers depend neither on the number of threads nor on the instruction set.

#include <algorithm>
#include <vector>

#include "instructionSets.h"
#include "rowParts.h"
#include "tensorflowOps.h"

namespace crosstower {
namespace {

/** `biases` are those of a run of rows. */
FOR_EACH_INSTRUCTION_SET
void forward(const float* __restrict z, const float* __restrict biases, float* __restrict y, long floats) {
  for (long i = 0; i < floats; i++) {
    const float biased = z[i] + biases[i];
    y[i] = biased < 0 ? 0 : biased;  // So written, it lets a NaN through.
  }
}

/** Adds the rows' part of db to `db`; `total` is scratch [C]. */
FOR_EACH_INSTRUCTION_SET
void backward(const float* __restrict dy, const float* __restrict y, float* __restrict dz, long rows, int channels, float* total, double* db) {
  for (long i = 0; i < rows * channels; i++) dz[i] = y[i] <= 0 ? 0 : dy[i];
  addRows(dz, rows, channels, total, db);
}

struct NoRule {
  void read(Attributes&) {}
};

long rowsOf(const Tensor& tensor, int channels) { return TF_TensorElementCount(tensor.get()) / channels; }

void computeForward(void*, TF_OpKernelContext* context) {
  Call call(context);
  const Tensor z = call.input(0), b = call.input(1);
  if (!call.isGood()) return;
  const auto shape = shapeOf(z), biasShape = shapeOf(b);
  call.require(shape.size() >= 2 && biasShape.size() == 1 && shape.back() == biasShape[0] && biasShape[0] > 0,
               "z must have the shape [N,...,C], and b one value for each of the C");
  if (!call.isGood()) return;
  const Tensor y = call.output(0, shape);
  if (!call.isGood()) return;
  const int channels = static_cast<int>(shape.back());
  const long rowsAtOnce = rowsInRun(channels);
  const std::vector<float> biases = forARun(floatsOf(b), channels);
  forEachPart(rowsOf(z, channels), channels, [&](long, long firstRow, long endRow) {
    for (long row = firstRow; row < endRow; row += rowsAtOnce) {
      const long floats = std::min(rowsAtOnce, endRow - row) * channels;
      forward(floatsOf(z) + row * channels, biases.data(), floatsOf(y) + row * channels, floats);
    }
  });
}

void computeBackward(void*, TF_OpKernelContext* context) {
  Call call(context);
  const Tensor dy = call.input(0), y = call.input(1);
  if (!call.isGood()) return;
  const auto shape = shapeOf(y);
  call.require(shape.size() >= 2 && shape.back() > 0, "y must have the shape [N,...,C]");
  call.require(shapeOf(dy) == shape, "dy must have the shape of y");
  if (!call.isGood()) return;
  const Tensor dz = call.output(0, shape), db = call.output(1, {shape.back()});
  if (!call.isGood()) return;
  const int channels = static_cast<int>(shape.back());
  const long rowsAtOnce = rowsInRun(channels);
  sumOverParts(rowsOf(y, channels), channels, floatsOf(db), [&](long firstRow, long endRow, double* sums) {
    std::vector<float> total(channels);
    for (long row = firstRow; row < endRow; row += rowsAtOnce) {
      const long rows = std::min(rowsAtOnce, endRow - row);
      const long at = row * channels;
      backward(floatsOf(dy) + at, floatsOf(y) + at, floatsOf(dz) + at, rows, channels, total.data(), sums);
    }
  });
}

/** Both are registered when the library is loaded. */
[[maybe_unused]] const bool registered = [] {
  registerOp<NoRule>({"CrosstowerRectified", {"z: float", "b: float"}, {"y: float"}, {}, computeForward});
  registerOp<NoRule>({"CrosstowerRectifiedGrad", {"dy: float", "y: float"}, {"dz: float", "db: float"}, {}, computeBackward});
  return true;
}();

}  // namespace
}  // namespace crosstower
