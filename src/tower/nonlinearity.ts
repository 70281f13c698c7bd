// The nonlinearities (paper, section 3.1, compares the first two), of any shape. Their gradients need only the output, so the input is not kept.

import type { NonlinearityName } from '../spec/network.ts';
import { float32, runOp } from './tensorflow.ts';
import type { Tensor } from './tensorflow.ts';

export interface Nonlinearity {
  /** y = f(x). */
  forward(x: Tensor): Tensor;
  /** dx from dy and y. */
  backward(dy: Tensor, y: Tensor): Tensor;
}

export const nonlinearities: Readonly<Record<NonlinearityName, Nonlinearity>> = {
  /** max(x, 0). */
  relu: {
    forward: (x) => runOp('Relu', [float32], [x]),
    backward: (dy, y) => runOp('ReluGrad', [float32], [dy, y]),
  },
  tanh: {
    forward: (x) => runOp('Tanh', [float32], [x]),
    backward: (dy, y) => runOp('TanhGrad', [float32], [y, dy]),
  },
  /** 1 / (1 + exp(-x)). */
  sigmoid: {
    forward: (x) => runOp('Sigmoid', [float32], [x]),
    backward: (dy, y) => runOp('SigmoidGrad', [float32], [y, dy]),
  },
};
