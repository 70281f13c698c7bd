// ReLU (paper, section 3.1): y = max(x, 0). Its gradient needs only the output, so the input need not be kept.

import { float32, runOp } from './tensorflow.ts';
import type { Tensor } from './tensorflow.ts';

/** y = max(x, 0), of any shape. */
export function reluForward(x: Tensor): Tensor {
  return runOp('Relu', [float32], [x]);
}

/** dx = dy where y > 0, else 0. */
export function reluBackward(dy: Tensor, y: Tensor): Tensor {
  return runOp('ReluGrad', [float32], [dy, y]);
}
