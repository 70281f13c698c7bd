// Two TensorFlow ops over all parameter blocks of a tower at once: the update rule (paper, section 5), and the squared norm of its gradients.
//   v <- m v - d w - r g, then w <- w + v, with m, d and r of each block: rates [N,3]
// The update writes to its inputs: they are the memory of variables that nobody else reads meanwhile (parameters.ts).
// Invariant: no number depends on the number of threads, nor on the instruction set.

#include <algorithm>
#include <cstdint>
#include <vector>

#include "instructionSets.h"
#include "sharing.h"
#include "tensorflowOps.h"

namespace crosstower {
namespace {

/** Every op here takes lists of N tensors. */
struct Blocks {
  int64_t count = 0;
  void read(Attributes& attributes) { attributes.read("N", &count); }
};

FOR_EACH_INSTRUCTION_SET
void update(float* __restrict w, float* __restrict v, const float* __restrict g, const float* rates, long floats) {
  const float m = rates[0], d = rates[1], r = rates[2];
  for (long i = 0; i < floats; i++) {
    v[i] = (m * v[i] - d * w[i]) - r * g[i];
    w[i] += v[i];
  }
}

void computeUpdate(void* blocks, TF_OpKernelContext* context) {
  Call call(context);
  const int64_t count = static_cast<Blocks*>(blocks)->count;
  const Tensor rates = call.input(static_cast<int>(3 * count));
  if (!call.isGood()) return;
  call.require(shapeOf(rates) == std::vector<int64_t>{count, 3}, "there must be three rates for each block");
  for (int64_t i = 0; i < count && call.isGood(); i++) {
    const Tensor w = call.input(static_cast<int>(i)), v = call.input(static_cast<int>(count + i)), g = call.input(static_cast<int>(2 * count + i));
    if (!call.isGood()) return;
    const long floats = TF_TensorElementCount(w.get());
    call.require(TF_TensorElementCount(v.get()) == floats && TF_TensorElementCount(g.get()) == floats,
                 "weights, velocities and gradients must have the same sizes");
    if (!call.isGood()) return;
    share(floats, threadsFor(floats), [&](long first, long end) {
      update(floatsOf(w) + first, floatsOf(v) + first, floatsOf(g) + first, floatsOf(rates) + 3 * i, end - first);
    });
  }
}

// A sum goes by fixed parts of a block, and within them by lanes, which a vector of any width can hold.

constexpr long floatsInPart = 1 << 16;
constexpr int sumLanes = 16;

FOR_EACH_INSTRUCTION_SET
double sumOfSquares(const float* __restrict x, long floats) {
  double sums[sumLanes] = {};
  const long whole = floats / sumLanes * sumLanes;
  for (long i = 0; i < whole; i += sumLanes) {
    for (int lane = 0; lane < sumLanes; lane++) sums[lane] += static_cast<double>(x[i + lane]) * x[i + lane];
  }
  for (long i = whole; i < floats; i++) sums[i - whole] += static_cast<double>(x[i]) * x[i];
  double sum = 0;
  for (const double lane : sums) sum += lane;
  return sum;
}

void computeSquaredNorm(void* blocks, TF_OpKernelContext* context) {
  Call call(context);
  const int64_t count = static_cast<Blocks*>(blocks)->count;
  double total = 0;
  for (int64_t i = 0; i < count; i++) {
    const Tensor x = call.input(static_cast<int>(i));
    if (!call.isGood()) return;
    const long floats = TF_TensorElementCount(x.get());
    std::vector<double> parts((floats + floatsInPart - 1) / floatsInPart);
    share(static_cast<long>(parts.size()), threadsFor(floats), [&](long first, long end) {
      for (long part = first; part < end; part++) {
        const long start = part * floatsInPart;
        parts[part] = sumOfSquares(floatsOf(x) + start, std::min(floatsInPart, floats - start));
      }
    });
    for (const double part : parts) total += part;
  }
  const Tensor norm = call.output(0, {});
  if (call.isGood()) *floatsOf(norm) = static_cast<float>(total);
}

/** Both are registered when the library is loaded. */
[[maybe_unused]] const bool registered = [] {
  registerOp<Blocks>({"CrosstowerUpdate", {"weights: N * float", "velocities: N * float", "gradients: N * float", "rates: float"}, {}, {"N: int >= 1"}, computeUpdate});
  registerOp<Blocks>({"CrosstowerSquaredNorm", {"blocks: N * float"}, {"norm: float"}, {"N: int >= 1"}, computeSquaredNorm});
  return true;
}();

}  // namespace
}  // namespace crosstower
