// Two TensorFlow ops, one pass over memory each: bias, ReLU and local response normalisation (paper, sections 3.1 and 3.3), and the way back.
//   a = max(z + b, 0), u = bias + alpha * (sum of a^2 over a map and two neighbours on each side), y = a * u^-0.75
//   da = dy * u^-0.75 - 2 * 0.75 * alpha * a * (sum over the same neighbours of dy * a * u^-1.75), dz = da where a > 0, db = sum of dz
// Maps are rows [R,C], R = N*H*W. A block of rows goes through scratch memory in which two zeros or more stand between rows, so that the
// sum over neighbours needs no special case at the edges; blocks, because a load that straddles what was just stored waits for it.
// Invariant: the numbers depend neither on the number of threads nor on the instruction set: sums go by fixed parts of the rows, and
// -ffp-contract=off keeps multiplications and additions apart.

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstdlib>
#include <memory>
#include <new>
#include <thread>
#include <vector>

#include "tensorflow/c/kernels.h"
#include "tensorflow/c/ops.h"
#include "tensorflow/c/tf_tensor.h"

// One function body, compiled once for each instruction set; the machine picks when the library is loaded.
#define FOR_EACH_INSTRUCTION_SET __attribute__((target_clones("avx512f", "avx2", "default")))
#define INLINE inline __attribute__((always_inline))

namespace {

constexpr int radius = 2;
constexpr int blockFloats = 2048;  // Per scratch array; all of them stay in the first cache.
constexpr int vectorFloats = 16;

struct Rule {
  float bias = 0;
  float alpha = 0;
};

/** Rows of C floats, each followed by zeros, at least `radius` of them; before the first row there are some too. */
class PaddedRows {
 public:
  PaddedRows(int rows, int channels)
      : stride_((channels + radius + vectorFloats - 1) / vectorFloats * vectorFloats),
        values_(new (std::align_val_t(64)) float[vectorFloats + static_cast<size_t>(rows) * stride_ + vectorFloats]()) {}
  INLINE float* row(int index) { return values_.get() + vectorFloats + static_cast<size_t>(index) * stride_; }

 private:
  struct Free {
    void operator()(float* values) const { ::operator delete[](values, std::align_val_t(64)); }
  };
  int stride_;
  std::unique_ptr<float[], Free> values_;
};

INLINE float overNeighbours(const float* at) {
  static_assert(radius == 2);
  return ((at[-2] + at[2]) + (at[-1] + at[1])) + at[0];
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

int rowsInBlock(int channels) { return std::max(1, blockFloats / channels); }

struct Forward {
  const float *z, *b;
  float *a, *y;
};

FOR_EACH_INSTRUCTION_SET
void forward(Rule rule, Forward t, long firstRow, long endRow, int channels) {
  const int blockRows = rowsInBlock(channels);
  PaddedRows squares(blockRows, channels);
  for (long start = firstRow; start < endRow; start += blockRows) {
    const int rows = static_cast<int>(std::min<long>(blockRows, endRow - start));
    for (int r = 0; r < rows; r++) {
      const float* __restrict z = t.z + (start + r) * channels;
      const float* __restrict b = t.b;
      float* __restrict a = t.a + (start + r) * channels;
      float* __restrict square = squares.row(r);
      for (int c = 0; c < channels; c++) {
        const float sum = z[c] + b[c];
        const float active = sum < 0 ? 0 : sum;  // So written, it lets a NaN through.
        a[c] = active;
        square[c] = active * active;
      }
    }
    for (int r = 0; r < rows; r++) {
      const float* __restrict a = t.a + (start + r) * channels;
      const float* __restrict square = squares.row(r);
      float* __restrict y = t.y + (start + r) * channels;
      for (int c = 0; c < channels; c++) {
        y[c] = a[c] * powersOf(rule.bias + rule.alpha * overNeighbours(square + c)).scale;
      }
    }
  }
}

struct Backward {
  const float *dy, *a;
  float* dz;
};

/** Adds the rows' part of db to `db`. */
FOR_EACH_INSTRUCTION_SET
void backward(Rule rule, Backward t, long firstRow, long endRow, int channels, double* db) {
  const int blockRows = rowsInBlock(channels);
  PaddedRows squares(blockRows, channels);
  PaddedRows products(blockRows, channels);  // dy * a * u^-1.75
  PaddedRows scales(blockRows, channels);
  std::vector<float> sums(channels);
  const float slope = 2 * 0.75f * rule.alpha;
  for (long start = firstRow; start < endRow; start += blockRows) {
    const int rows = static_cast<int>(std::min<long>(blockRows, endRow - start));
    for (int r = 0; r < rows; r++) {
      const float* __restrict a = t.a + (start + r) * channels;
      float* __restrict square = squares.row(r);
      for (int c = 0; c < channels; c++) square[c] = a[c] * a[c];
    }
    for (int r = 0; r < rows; r++) {
      const float* __restrict a = t.a + (start + r) * channels;
      const float* __restrict dy = t.dy + (start + r) * channels;
      const float* __restrict square = squares.row(r);
      float* __restrict product = products.row(r);
      float* __restrict scale = scales.row(r);
      for (int c = 0; c < channels; c++) {
        const Powers of = powersOf(rule.bias + rule.alpha * overNeighbours(square + c));
        scale[c] = dy[c] * of.scale;
        product[c] = scale[c] * a[c] * of.inverse;
      }
    }
    float* __restrict sum = sums.data();
    std::fill_n(sum, channels, 0.0f);
    for (int r = 0; r < rows; r++) {
      const float* __restrict a = t.a + (start + r) * channels;
      const float* __restrict product = products.row(r);
      const float* __restrict scale = scales.row(r);
      float* __restrict dz = t.dz + (start + r) * channels;
      for (int c = 0; c < channels; c++) {
        const float da = scale[c] - slope * a[c] * overNeighbours(product + c);
        const float d = a[c] <= 0 ? 0 : da;
        dz[c] = d;
        sum[c] += d;
      }
    }
    for (int c = 0; c < channels; c++) db[c] += sum[c];
  }
}

// Threads: as many as TensorFlow takes for one op. Each has some of the parts, in which the rows are cut for any number of them.

constexpr int mostParts = 64;
constexpr long fewestFloatsToShare = 1 << 16;  // Below, a thread costs more than it spares.

int threadsFor(long floats) {
  static const int threads = [] {
    const char* asked = std::getenv("TF_NUM_INTRAOP_THREADS");
    const int count = asked == nullptr ? 0 : std::atoi(asked);
    return count > 0 ? count : std::max(1, static_cast<int>(std::thread::hardware_concurrency()));
  }();
  return floats < fewestFloatsToShare ? 1 : std::min(threads, mostParts);
}

/** Calls work(part, firstRow, endRow) for every part. */
template <typename Work>
void forEachPart(long rows, int channels, Work work) {
  const int threads = threadsFor(rows * channels);
  const auto share = [&](int thread) {
    for (int part = mostParts * thread / threads; part < mostParts * (thread + 1) / threads; part++) {
      const long first = rows * part / mostParts, end = rows * (part + 1) / mostParts;
      if (first < end) work(part, first, end);
    }
  };
  std::vector<std::thread> others;
  for (int thread = 1; thread < threads; thread++) others.emplace_back(share, thread);
  share(0);
  for (std::thread& other : others) other.join();
}

// TensorFlow's side.

struct FreeTensor {
  void operator()(TF_Tensor* tensor) const { TF_DeleteTensor(tensor); }
};
struct FreeStatus {
  void operator()(TF_Status* status) const { TF_DeleteStatus(status); }
};
using Tensor = std::unique_ptr<TF_Tensor, FreeTensor>;
using Status = std::unique_ptr<TF_Status, FreeStatus>;

std::vector<int64_t> shapeOf(const Tensor& tensor) {
  std::vector<int64_t> shape(TF_NumDims(tensor.get()));
  for (size_t i = 0; i < shape.size(); i++) shape[i] = TF_Dim(tensor.get(), static_cast<int>(i));
  return shape;
}

float* floatsOf(const Tensor& tensor) { return static_cast<float*>(TF_TensorData(tensor.get())); }

/** One call of an op; the first thing that fails in it is what TensorFlow is told, and the caller returns then. */
class Call {
 public:
  explicit Call(TF_OpKernelContext* context) : context_(context), status_(TF_NewStatus()) {}

  Tensor input(int index) {
    TF_Tensor* tensor = nullptr;
    TF_GetInput(context_, index, &tensor, status_.get());
    return Tensor(tensor);
  }
  Tensor output(int index, const std::vector<int64_t>& shape) {
    size_t bytes = sizeof(float);
    for (const int64_t dimension : shape) bytes *= dimension;
    TF_Tensor* tensor = TF_AllocateOutput(context_, index, TF_FLOAT, shape.data(), shape.size(), bytes, status_.get());
    return Tensor(tensor);
  }
  void require(bool condition, const char* otherwise) {
    if (isGood() && !condition) TF_SetStatus(status_.get(), TF_INVALID_ARGUMENT, otherwise);
  }
  bool isGood() const { return TF_GetCode(status_.get()) == TF_OK; }
  ~Call() {
    if (!isGood()) TF_OpKernelContext_Failure(context_, status_.get());
  }

 private:
  TF_OpKernelContext* context_;
  Status status_;
};

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
  const int channels = static_cast<int>(shape[3]);
  forEachPart(shape[0] * shape[1] * shape[2], channels, [&](int, long firstRow, long endRow) {
    forward(*static_cast<Rule*>(rule), {floatsOf(z), floatsOf(b), floatsOf(a), floatsOf(y)}, firstRow, endRow, channels);
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
  const int channels = static_cast<int>(shape[3]);
  std::vector<double> parts(static_cast<size_t>(mostParts) * channels);
  forEachPart(shape[0] * shape[1] * shape[2], channels, [&](int part, long firstRow, long endRow) {
    double* sums = parts.data() + static_cast<size_t>(part) * channels;
    backward(*static_cast<Rule*>(rule), {floatsOf(dy), floatsOf(a), floatsOf(dz)}, firstRow, endRow, channels, sums);
  });
  for (int c = 0; c < channels; c++) {
    double sum = 0;
    for (int part = 0; part < mostParts; part++) sum += parts[static_cast<size_t>(part) * channels + c];
    floatsOf(db)[c] = static_cast<float>(sum);
  }
}

void* createRule(TF_OpKernelConstruction* construction) {
  const Status status(TF_NewStatus());
  auto rule = std::make_unique<Rule>();
  TF_OpKernelConstruction_GetAttrFloat(construction, "bias", &rule->bias, status.get());
  if (TF_GetCode(status.get()) == TF_OK) TF_OpKernelConstruction_GetAttrFloat(construction, "alpha", &rule->alpha, status.get());
  if (TF_GetCode(status.get()) == TF_OK) return rule.release();
  TF_OpKernelConstruction_Failure(construction, status.get());
  return nullptr;
}

void deleteRule(void* rule) { delete static_cast<Rule*>(rule); }

/** Output `output` has the shape of input `input`. */
void keepShape(TF_ShapeInferenceContext* context, int input, int output, TF_Status* status) {
  TF_ShapeHandle* shape = TF_NewShapeHandle();
  TF_ShapeInferenceContextGetInput(context, input, shape, status);
  if (TF_GetCode(status) == TF_OK) TF_ShapeInferenceContextSetOutput(context, output, shape, status);
  TF_DeleteShapeHandle(shape);
}

void forwardShapes(TF_ShapeInferenceContext* context, TF_Status* status) {
  keepShape(context, 0, 0, status);
  if (TF_GetCode(status) == TF_OK) keepShape(context, 0, 1, status);
}

void backwardShapes(TF_ShapeInferenceContext* context, TF_Status* status) {
  keepShape(context, 1, 0, status);
  if (TF_GetCode(status) != TF_OK) return;
  TF_ShapeHandle* shape = TF_NewShapeHandle();
  TF_ShapeInferenceContextGetInput(context, 1, shape, status);
  if (TF_GetCode(status) == TF_OK) TF_ShapeInferenceContextSubshape(context, shape, -1, 1 << 30, shape, status);
  if (TF_GetCode(status) == TF_OK) TF_ShapeInferenceContextSetOutput(context, 1, shape, status);
  TF_DeleteShapeHandle(shape);
}

struct Op {
  const char* name;
  std::vector<const char*> inputs, outputs;
  void (*shapes)(TF_ShapeInferenceContext*, TF_Status*);
  void (*compute)(void*, TF_OpKernelContext*);
};

/** What fails here is an op that TensorFlow does not have, which normalisedActivation.ts finds out. */
void registerOp(const Op& op) {
  const Status status(TF_NewStatus());
  TF_OpDefinitionBuilder* definition = TF_NewOpDefinitionBuilder(op.name);
  for (const char* input : op.inputs) TF_OpDefinitionBuilderAddInput(definition, input);
  for (const char* output : op.outputs) TF_OpDefinitionBuilderAddOutput(definition, output);
  for (const char* attribute : {"bias: float", "alpha: float"}) TF_OpDefinitionBuilderAddAttr(definition, attribute);
  TF_OpDefinitionBuilderSetShapeInferenceFunction(definition, op.shapes);
  TF_RegisterOpDefinition(definition, status.get());
  if (TF_GetCode(status.get()) != TF_OK) return;
  TF_KernelBuilder* kernel = TF_NewKernelBuilder(op.name, "CPU", createRule, op.compute, deleteRule);
  TF_RegisterKernelBuilder(op.name, kernel, status.get());
}

/** Both are registered when the library is loaded. */
[[maybe_unused]] const bool registered = [] {
  registerOp({"CrosstowerNormalisedActivation",
              {"z: float", "b: float"},
              {"a: float", "y: float"},
              forwardShapes,
              computeForward});
  registerOp({"CrosstowerNormalisedActivationGrad",
              {"dy: float", "a: float"},
              {"dz: float", "db: float"},
              backwardShapes,
              computeBackward});
  return true;
}();

}  // namespace
