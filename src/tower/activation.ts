// What follows a layer's product z = x * w: bias and nonlinearity, with the way back. Of any shape [N,...,C], b [C].
// ReLU is the paper's (section 3.1), tanh and the logistic sigmoid are what it compares with; normalisedActivation.ts has the activation that
// ends in response normalisation (section 3.3).
// Invariant: each nonlinearity's gradient needs its output only, so that its input need not be kept.

import type { ActivationName } from '../spec/network.ts';
import { addBias, biasGradient } from './linearMap.ts';
import { reluBackward, reluForward } from './relu.ts';
import { canRun, float32, runOp, runOpMany } from './tensorflow.ts';
import type { Tensor } from './tensorflow.ts';
import tf from '@tensorflow/tfjs-node-gpu';

/** What a forward pass gives away; both are freed after the backward pass. */
export interface Activated {
  readonly y: Tensor;
  /** What the backward pass needs besides y. */
  readonly saved: readonly Tensor[];
}

export interface Activation {
  /** y from z and the bias b, both borrowed. */
  forward(z: Tensor, b: Tensor): Activated;
  /** dz and db from dy; frees nothing. */
  backward(dy: Tensor, activated: Activated): { dz: Tensor; db: Tensor };
  /** Frees the layer's constants. */
  close(): void;
}

export interface Nonlinearity {
  forward(x: Tensor): Tensor;
  /** dx from dy and the output y; frees nothing. */
  backward(dy: Tensor, y: Tensor): Tensor;
}

export const nonlinearities: Readonly<Record<ActivationName, Nonlinearity>> = {
  relu: { forward: reluForward, backward: reluBackward },
  tanh: {
    forward: (x) => runOp('Tanh', [float32], [x]),
    backward: (dy, y) => runOp('TanhGrad', [float32], [y, dy]),
  },
  sigmoid: {
    forward: (x) => runOp('Sigmoid', [float32], [x]),
    backward: (dy, y) => runOp('SigmoidGrad', [float32], [y, dy]),
  },
};

/** y = f(z + b) by TensorFlow's ops, on every device. */
export function portableActivation(name: ActivationName): Activation {
  const f = nonlinearities[name];
  return {
    forward(z, b) {
      const sum = addBias(z, b);
      const y = f.forward(sum);
      sum.dispose();
      return { y, saved: [] };
    },
    backward(dy, { y }) {
      const dz = f.backward(dy, y);
      return { dz, db: biasGradient(dz) };
    },
    close: () => undefined,
  };
}

/** y = max(z + b, 0). */
export const rectified: Activation = portableActivation('relu');

/** The same by our own pair of ops (native/rectified.cc, ADR 11), in one pass over the memory each way instead of two. */
export const nativeRectified: Activation = {
  forward: (z, b) => ({ y: runOp('CrosstowerRectified', [], [z, b]), saved: [] }),
  backward(dy, { y }) {
    const [dz, db] = runOpMany('CrosstowerRectifiedGrad', [], [dy, y], 2) as [Tensor, Tensor];
    return { dz, db };
  },
  close: () => undefined,
};

/** Whether the binding has our ops: one value, there and back. */
export function hasNativeRectified(): boolean {
  return canRun(() => {
    const z = tf.ones([1, 1]);
    nativeRectified.backward(z, nativeRectified.forward(z, tf.ones([1])));
  });
}

/** y = z + b, where the nonlinearity comes later. */
export const biasOnly: Activation = {
  forward: (z, b) => ({ y: addBias(z, b), saved: [] }),
  backward: (dy) => ({ dz: dy.clone(), db: biasGradient(dy) }),
  close: () => undefined,
};
