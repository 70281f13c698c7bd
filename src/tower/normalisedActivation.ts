// Bias, ReLU and local response normalisation (paper, sections 3.1 and 3.3): a = max(z + b, 0), y = a / u^beta (responseNorm.ts), maps
// [N,H,W,C]. All of it does little arithmetic with much memory, so our own op (native/normalisedActivation.cc, ADR 11) goes over the maps
// once in each direction, and keeps only a and y; composed of TensorFlow's ops it goes over them about ten times.

import { responseNorm } from '../spec/network.ts';
import type { ResponseNormRule } from '../spec/network.ts';
import { rectified } from './activation.ts';
import type { Activation } from './activation.ts';
import type { ResponseNorm } from './responseNorm.ts';
import { attribute, canRun, runOpMany } from './tensorflow.ts';
import type { Tensor } from './tensorflow.ts';
import tf from '@tensorflow/tfjs-node-gpu';

/** Runs everywhere: `rectified`, then a response norm, which it closes. */
export function composedNormalisedActivation(norm: ResponseNorm): Activation {
  return {
    forward(z, b) {
      const { y: a } = rectified.forward(z, b);
      const { y, saved } = norm.forward(a);
      return { y, saved: [a, ...saved] };
    },
    backward(dy, { y, saved: [a, ...normSaved] }) {
      if (a === undefined) throw new Error('the normalised activation went forward without saving');
      const da = norm.backward(dy, a, y, normSaved);
      const gradients = rectified.backward(da, { y: a, saved: [] });
      da.dispose();
      return gradients;
    },
    close: () => {
      norm.close();
    },
  };
}

/** Our own pair of ops; for the paper's five neighbours and beta = 0.75. */
export function nativeNormalisedActivation({ radius, bias, alpha, beta }: ResponseNormRule = responseNorm): Activation {
  if (radius !== 2 || beta !== 0.75) throw new Error('the native response norm knows radius 2 and beta 0.75 only');
  const attributes = [attribute.float('bias', bias), attribute.float('alpha', alpha)];
  return {
    forward(z, b) {
      const [a, y] = runOpMany('CrosstowerNormalisedActivation', attributes, [z, b], 2) as [Tensor, Tensor];
      return { y, saved: [a] };
    },
    backward(dy, { saved: [a] }) {
      if (a === undefined) throw new Error('the normalised activation went forward without saving');
      const [dz, db] = runOpMany('CrosstowerNormalisedActivationGrad', attributes, [dy, a], 2) as [Tensor, Tensor];
      return { dz, db };
    },
    close: () => undefined,
  };
}

/** Whether the binding has our ops, and TensorFlow took them: one value, there and back. */
export function hasNativeNormalisedActivation(): boolean {
  const layer = nativeNormalisedActivation();
  return canRun(() => {
    const z = tf.ones([1, 1, 1, 1]);
    layer.backward(z, layer.forward(z, tf.ones([1])));
  });
}
