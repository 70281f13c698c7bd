// A TensorFlow op for the loss (paper, section 3), its gradient and the scores, in one pass over the logits [N,K] with labels [N]:
//   loss = sum over pictures of log(sum of e^z) - z at the label, dz = (e^z / sum of e^z - one at the label) / P, P the pictures of the step
//   scores [3]: the loss, and how many pictures have fewer than one, and than five, logits above their label's; none counts beside one that is
//   not finite
// Invariant: no number depends on the number of threads, nor on the instruction set: sums go by lanes, which a vector of any width can hold.

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <vector>

#include "instructionSets.h"
#include "sharing.h"
#include "tensorflowOps.h"

namespace crosstower {
namespace {

constexpr int sumLanes = 16;

struct StepSize {
  int64_t pictures = 1;
  void read(Attributes& attributes) { attributes.read("pictures", &pictures); }
};

/** e^x of x <= 0, to two units in the last place: 2^n e^r with |r| <= log(2) / 2, where eight terms of the series are enough. */
INLINE float expOf(float x) {
  constexpr float least = -87, log2OfE = 1.44269504f;
  constexpr float ln2High = 0.693145752f, ln2Low = 1.42860682e-6f;  // The product of the first with n is exact.
  constexpr float toWhole = 12582912;  // 1.5 * 2^23: what is added to it is rounded to a whole number, which its last bits hold.
  const float bounded = x < least ? least : x;  // So written, it lets a NaN through.
  const float shifted = bounded * log2OfE + toWhole, n = shifted - toWhole;
  const float r = (bounded - n * ln2High) - n * ln2Low;
  const float higher = 1 / 24.0f + r * (1 / 120.0f + r * (1 / 720.0f + r * (1 / 5040.0f)));
  const float series = 1 + r * (1 + r * (1 / 2.0f + r * (1 / 6.0f + r * higher)));
  int32_t bits;
  std::memcpy(&bits, &shifted, sizeof bits);
  bits = static_cast<int32_t>(static_cast<uint32_t>(bits + 127) << 23);
  float power;
  std::memcpy(&power, &bits, sizeof power);
  return series * power;
}

struct Scored {
  double loss;
  bool isTop1, isTop5;
};

FOR_EACH_INSTRUCTION_SET
Scored scorePicture(const float* __restrict z, int classes, int label, float part, float* __restrict dz) {
  float most = z[0];
  int above = 0, notFinite = 0;
  const float own = z[label];
  for (int k = 0; k < classes; k++) {
    most = z[k] > most ? z[k] : most;
    above += z[k] > own;
    notFinite += !(z[k] - z[k] == 0);
  }
  float sums[sumLanes] = {};
  const int whole = classes / sumLanes * sumLanes;
  for (int k = 0; k < classes; k++) dz[k] = expOf(z[k] - most);
  for (int k = 0; k < whole; k += sumLanes) {
    for (int lane = 0; lane < sumLanes; lane++) sums[lane] += dz[k + lane];
  }
  for (int k = whole; k < classes; k++) sums[k - whole] += dz[k];
  float sum = 0;
  for (const float lane : sums) sum += lane;
  const float scale = part / sum;
  for (int k = 0; k < classes; k++) dz[k] *= scale;
  dz[label] -= part;
  const double loss = std::log(static_cast<double>(sum)) - (static_cast<double>(own) - most);
  return {loss, notFinite == 0 && above < 1, notFinite == 0 && above < 5};
}

void compute(void* step, TF_OpKernelContext* context) {
  Call call(context);
  const Tensor logits = call.input(0), labels = call.input(1);
  if (!call.isGood()) return;
  const auto shape = shapeOf(logits);
  call.require(shape.size() == 2 && shape[1] > 0 && static_cast<StepSize*>(step)->pictures > 0, "logits must have the shape [N,K]");
  call.require(shape.size() == 2 && shapeOf(labels) == std::vector<int64_t>{shape[0]}, "there must be one label for each picture");
  if (!call.isGood()) return;
  const long pictures = shape[0];
  const int classes = static_cast<int>(shape[1]);
  const int32_t* label = static_cast<const int32_t*>(TF_TensorData(labels.get()));
  call.require(std::all_of(label, label + pictures, [&](int32_t one) { return one >= 0 && one < classes; }), "a label must be one of the classes");
  if (!call.isGood()) return;
  const Tensor gradients = call.output(0, shape), scores = call.output(1, {3});
  if (!call.isGood()) return;
  const float part = 1 / static_cast<float>(static_cast<StepSize*>(step)->pictures);
  std::vector<Scored> scored(pictures);
  share(pictures, threadsFor(pictures * classes), [&](long first, long end) {
    for (long n = first; n < end; n++) {
      scored[n] = scorePicture(floatsOf(logits) + n * classes, classes, label[n], part, floatsOf(gradients) + n * classes);
    }
  });
  double loss = 0;
  int top1 = 0, top5 = 0;
  for (const Scored& one : scored) {
    loss += one.loss;
    top1 += one.isTop1;
    top5 += one.isTop5;
  }
  float* score = floatsOf(scores);
  score[0] = static_cast<float>(loss);
  score[1] = static_cast<float>(top1);
  score[2] = static_cast<float>(top5);
}

/** Registered when the library is loaded. */
[[maybe_unused]] const bool registered = [] {
  registerOp<StepSize>({"CrosstowerLoss", {"logits: float", "labels: int32"}, {"gradients: float", "scores: float"}, {"pictures: int"}, compute});
  return true;
}();

}  // namespace
}  // namespace crosstower
