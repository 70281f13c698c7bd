// What an op of our own needs of TensorFlow's C interface: its tensors while it runs, its attributes, and its registration.
#pragma once

#include <cstdint>
#include <memory>
#include <vector>

#include "tensorflow/c/kernels.h"
#include "tensorflow/c/ops.h"
#include "tensorflow/c/tf_tensor.h"

namespace crosstower {

struct FreeTensor {
  void operator()(TF_Tensor* tensor) const { TF_DeleteTensor(tensor); }
};
struct FreeStatus {
  void operator()(TF_Status* status) const { TF_DeleteStatus(status); }
};
using Tensor = std::unique_ptr<TF_Tensor, FreeTensor>;
using Status = std::unique_ptr<TF_Status, FreeStatus>;

inline std::vector<int64_t> shapeOf(const Tensor& tensor) {
  std::vector<int64_t> shape(TF_NumDims(tensor.get()));
  for (size_t i = 0; i < shape.size(); i++) shape[i] = TF_Dim(tensor.get(), static_cast<int>(i));
  return shape;
}

inline float* floatsOf(const Tensor& tensor) { return static_cast<float*>(TF_TensorData(tensor.get())); }
inline const uint8_t* bytesOf(const Tensor& tensor) { return static_cast<const uint8_t*>(TF_TensorData(tensor.get())); }

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

/** Reads the attributes that one node of an op is made with; the first that fails is what TensorFlow is told. */
class Attributes {
 public:
  explicit Attributes(TF_OpKernelConstruction* construction) : construction_(construction), status_(TF_NewStatus()) {}

  void read(const char* name, float* value) {
    if (isGood()) TF_OpKernelConstruction_GetAttrFloat(construction_, name, value, status_.get());
  }
  void read(const char* name, int64_t* value) {
    if (isGood()) TF_OpKernelConstruction_GetAttrInt64(construction_, name, value, status_.get());
  }
  bool isGood() const { return TF_GetCode(status_.get()) == TF_OK; }
  ~Attributes() {
    if (!isGood()) TF_OpKernelConstruction_Failure(construction_, status_.get());
  }

 private:
  TF_OpKernelConstruction* construction_;
  Status status_;
};

/** Makes what an op's node keeps: `Node` has read(Attributes&). */
template <typename Node>
void* createNode(TF_OpKernelConstruction* construction) {
  Attributes attributes(construction);
  auto node = std::make_unique<Node>();
  node->read(attributes);
  return attributes.isGood() ? node.release() : nullptr;
}

template <typename Node>
void deleteNode(void* node) {
  delete static_cast<Node*>(node);
}

struct Op {
  const char* name;
  std::vector<const char*> inputs, outputs, attributes;
  void (*compute)(void*, TF_OpKernelContext*);
};

/** Registers a CPU op. What fails here is an op that TensorFlow does not have, which the TypeScript side finds out when it tries it. */
template <typename Node>
void registerOp(const Op& op) {
  const Status status(TF_NewStatus());
  TF_OpDefinitionBuilder* definition = TF_NewOpDefinitionBuilder(op.name);
  for (const char* input : op.inputs) TF_OpDefinitionBuilderAddInput(definition, input);
  for (const char* output : op.outputs) TF_OpDefinitionBuilderAddOutput(definition, output);
  for (const char* attribute : op.attributes) TF_OpDefinitionBuilderAddAttr(definition, attribute);
  // Ops are run one by one, never in a graph: no shape needs to be known before its tensor is.
  TF_OpDefinitionBuilderSetShapeInferenceFunction(definition, TF_ShapeInferenceContextSetUnknownShape);
  TF_RegisterOpDefinition(definition, status.get());
  if (TF_GetCode(status.get()) != TF_OK) return;
  TF_KernelBuilder* kernel = TF_NewKernelBuilder(op.name, "CPU", createNode<Node>, op.compute, deleteNode<Node>);
  TF_RegisterKernelBuilder(op.name, kernel, status.get());
}

}  // namespace crosstower
