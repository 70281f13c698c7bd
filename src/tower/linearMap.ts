// What a layer's weights do to its input, as a map y = x * w that is linear in both, with the two gradients that follow from it.
// A convolution and a dense layer are both one, so crossings (crossing.ts) are written once for both.

import { attribute, float32, runOp } from './tensorflow.ts';
import type { Tensor } from './tensorflow.ts';

export interface LinearMap {
  /** y = x * w. */
  apply(x: Tensor, w: Tensor): Tensor;
  /** dx of shape `xShape`, from dy and w. */
  inputGradient(dy: Tensor, w: Tensor, xShape: readonly number[]): Tensor;
  /** dw of shape `wShape`, from x and dy. */
  weightGradient(x: Tensor, dy: Tensor, wShape: readonly number[]): Tensor;
}

/** The map of a dense layer: x [N,I], w [I,O], y [N,O]. */
export const dense: LinearMap = {
  apply: (x, w) => matMul(x, w, false, false),
  inputGradient: (dy, w) => matMul(dy, w, false, true),
  weightGradient: (x, dy) => matMul(x, dy, true, false),
};

/** The matrix product a * b, with either side transposed where said. */
export function matMul(a: Tensor, b: Tensor, transposeA: boolean, transposeB: boolean): Tensor {
  return runOp('MatMul', [float32, attribute.bool('transpose_a', transposeA), attribute.bool('transpose_b', transposeB)], [a, b]);
}

const biasAttributes = [float32, attribute.string('data_format', 'NHWC')];

/** z = x + b along the last axis: x [N,...,C], b [C]. */
export function addBias(x: Tensor, b: Tensor): Tensor {
  return runOp('BiasAdd', biasAttributes, [x, b]);
}

/** db [C]: the sum of dz [N,...,C] over every axis but the last. */
export function biasGradient(dz: Tensor): Tensor {
  return runOp('BiasAddGrad', biasAttributes, [dz]);
}
