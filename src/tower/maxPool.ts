// Max pooling (paper, section 3.4): windows of 3x3, two apart (overlapping), or of 2x2 (disjoint); x [N,H,W,C] -> y [N,H',W',C].
// The gradient goes to the place of each window's maximum. oneDNN's kernels remember those places in a workspace; TensorFlow's portable
// gradient searches them again, which takes thirty times as long on a CPU (bench/kernels.ts).

import { poolWindow } from '../spec/network.ts';
import type { PoolWindow } from '../spec/network.ts';
import { attribute, canRun, float32, runOp, runOpMany } from './tensorflow.ts';
import type { Attribute, Tensor } from './tensorflow.ts';
import tf from '@tensorflow/tfjs-node-gpu';

/** What a max pool's backward pass needs; it is freed there. */
export interface PoolSaved {
  readonly x: Tensor;
  readonly y: Tensor;
  readonly workspace?: Tensor;
}

export interface MaxPool {
  /** Gives y and what is needed to go back: x and y are referred to, not copied. */
  forward(x: Tensor): { y: Tensor; workspace?: Tensor };
  /** dx from dy; frees nothing. */
  backward(dy: Tensor, saved: PoolSaved): Tensor;
}

function attributesOf({ size, stride }: PoolWindow): Attribute[] {
  return [
    float32,
    attribute.int('ksize', [1, size, size, 1]),
    attribute.int('strides', [1, stride, stride, 1]),
    attribute.string('padding', 'VALID'),
    attribute.int('explicit_paddings', []),
    attribute.string('data_format', 'NHWC'),
  ];
}

/** Runs everywhere, GPUs included. */
export function portableMaxPool(window: PoolWindow = poolWindow): MaxPool {
  const attributes = attributesOf(window);
  return {
    forward: (x) => ({ y: runOp('MaxPool', attributes, [x]) }),
    backward: (dy, { x, y }) => runOp('MaxPoolGrad', attributes, [x, y, dy]),
  };
}

/** oneDNN's pair, in TensorFlow's builds for x86 CPUs. */
export function workspaceMaxPool(window: PoolWindow = poolWindow): MaxPool {
  const attributes = [
    ...attributesOf(window),
    attribute.bool('workspace_enabled', true),
    attribute.string('_kernel', 'MklNameChangeOp'),
  ];
  return {
    forward(x) {
      const [y, workspace] = runOpMany('_MklNativeMaxPool', attributes, [x], 2) as [Tensor, Tensor];
      return { y, workspace };
    },
    backward(dy, { x, y, workspace }) {
      if (workspace === undefined) throw new Error('max pooling went forward without a workspace');
      return runOp('_MklNativeMaxPoolGrad', attributes, [x, y, dy, workspace]);
    },
  };
}

/** Whether this TensorFlow has oneDNN's pooling pair: one small pooling, there and back. */
export function hasWorkspaceMaxPool(): boolean {
  const pool = workspaceMaxPool();
  return canRun(() => {
    const x = tf.ones([1, 3, 3, 8]);
    const pooled = pool.forward(x);
    pool.backward(pooled.y, { x, ...pooled });
  });
}
