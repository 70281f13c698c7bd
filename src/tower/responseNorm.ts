// Local response normalisation of the maps at hand (paper, section 3.3): y = x / u^beta with u = k + alpha * (sum of x^2 over 5 neighbouring maps).
// x [N,H,W,C]. With rows [N*H*W,C] the sum over neighbours is a product with a banded CxC matrix, which a matrix unit does far faster than
// TensorFlow's own LRN op sums; u^-0.75 = rsqrt(u) * sqrt(rsqrt(u)) spares the power.

import { responseNorm } from '../spec/network.ts';
import type { ResponseNormRule } from '../spec/network.ts';
import { matMul } from './linearMap.ts';
import { attribute, dispose, float32, runOp } from './tensorflow.ts';
import type { Tensor } from './tensorflow.ts';
import tf from '@tensorflow/tfjs-node-gpu';

export interface ResponseNorm {
  /** y, and what the backward pass needs besides x and y. */
  forward(x: Tensor): { y: Tensor; saved: readonly Tensor[] };
  /** dx from dy; frees nothing. */
  backward(dy: Tensor, x: Tensor, y: Tensor, saved: readonly Tensor[]): Tensor;
  /** Frees the layer's constants. */
  close(): void;
}

/** Runs everywhere: TensorFlow's own pair of ops. */
export function portableResponseNorm(_channels: number, rule: ResponseNormRule = responseNorm): ResponseNorm {
  const attributes = [
    float32,
    attribute.int('depth_radius', rule.radius),
    attribute.float('bias', rule.bias),
    attribute.float('alpha', rule.alpha),
    attribute.float('beta', rule.beta),
  ];
  return {
    forward: (x) => ({ y: runOp('LRN', attributes, [x]), saved: [] }),
    backward: (dy, x, y) => runOp('LRNGrad', attributes, [dy, x, y]),
    close: () => undefined,
  };
}

/** The banded product; for beta = 0.75, the paper's. */
export function bandedResponseNorm(channels: number, rule: ResponseNormRule = responseNorm): ResponseNorm {
  if (rule.beta !== 0.75) throw new Error(`the banded response norm knows beta 0.75, not ${String(rule.beta)}`);
  const band = tf.keep(tf.tensor2d(bandMatrix(channels, rule), [channels, channels]));
  const bias = tf.keep(tf.scalar(rule.bias));
  const slope = tf.keep(tf.scalar(2 * rule.beta));
  return {
    forward(x) {
      const rows = tf.reshape(x, [-1, channels]);
      const u = tf.tidy(() => tf.add(matMul(tf.square(rows), band, false, false), bias));
      const scale = tf.tidy(() => {
        const root = tf.rsqrt(u);
        return tf.mul(root, tf.sqrt(root));
      });
      const y = tf.tidy(() => tf.reshape(tf.mul(rows, scale), x.shape));
      rows.dispose();
      return { y, saved: [u, scale] };
    },
    // dx = dy u^-beta - 2 alpha beta x * (sum over neighbours of dy y / u)
    backward(dy, x, y, [u, scale]) {
      if (u === undefined || scale === undefined) throw new Error('response norm went forward without saving');
      return tf.tidy(() => {
        const [dyRows, xRows, yRows] = [dy, x, y].map((t) => tf.reshape(t, [-1, channels])) as [Tensor, Tensor, Tensor];
        const sums = matMul(tf.div(tf.mul(dyRows, yRows), u), band, false, false);
        return tf.reshape(tf.sub(tf.mul(dyRows, scale), tf.mul(tf.mul(xRows, slope), sums)), x.shape);
      });
    },
    close: () => {
      dispose(band, bias, slope);
    },
  };
}

/** alpha where two maps are neighbours, else 0. */
function bandMatrix(channels: number, { radius, alpha }: ResponseNormRule): Float32Array {
  const band = new Float32Array(channels * channels);
  for (let from = 0; from < channels; from++) {
    for (let to = Math.max(0, from - radius); to <= Math.min(channels - 1, from + radius); to++) {
      band[from * channels + to] = alpha;
    }
  }
  return band;
}
