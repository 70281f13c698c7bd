// Overlapping max pooling (paper, section 3.4): windows of 3x3, two apart, x [N,H,W,C] -> y [N,H',W',C].
// The gradient goes to the place of each window's maximum. oneDNN's kernels remember those places in a workspace; TensorFlow's portable
// gradient searches them again, which takes thirty times as long on a CPU (bench/kernels.ts).

import { poolWindow } from '../spec/network.ts';
import { attribute, dispose, float32, runOp, runOpMany } from './tensorflow.ts';
import type { Tensor } from './tensorflow.ts';

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

const window = [
  float32,
  attribute.int('ksize', [1, poolWindow.size, poolWindow.size, 1]),
  attribute.int('strides', [1, poolWindow.stride, poolWindow.stride, 1]),
  attribute.string('padding', 'VALID'),
  attribute.int('explicit_paddings', []),
  attribute.string('data_format', 'NHWC'),
];

/** Runs everywhere, GPUs included. */
export const portableMaxPool: MaxPool = {
  forward: (x) => ({ y: runOp('MaxPool', window, [x]) }),
  backward: (dy, { x, y }) => runOp('MaxPoolGrad', window, [x, y, dy]),
};

const withWorkspace = [...window, attribute.bool('workspace_enabled', true), attribute.string('_kernel', 'MklNameChangeOp')];

/** oneDNN's pair, in TensorFlow's builds for x86 CPUs. */
export const workspaceMaxPool: MaxPool = {
  forward(x) {
    const [y, workspace] = runOpMany('_MklNativeMaxPool', withWorkspace, [x], 2) as [Tensor, Tensor];
    return { y, workspace };
  },
  backward(dy, { x, y, workspace }) {
    if (workspace === undefined) throw new Error('max pooling went forward without a workspace');
    return runOp('_MklNativeMaxPoolGrad', withWorkspace, [x, y, dy, workspace]);
  },
};

/** Whether this TensorFlow has oneDNN's pooling pair: one small pooling, there and back. */
export function hasWorkspaceMaxPool(probe: Tensor): boolean {
  let tensors: Tensor[] = [];
  try {
    const { y, workspace } = workspaceMaxPool.forward(probe);
    tensors = workspace === undefined ? [y] : [y, workspace];
    tensors.push(workspaceMaxPool.backward(y, { x: probe, y, ...(workspace === undefined ? {} : { workspace }) }));
    return true;
  } catch {
    return false;
  } finally {
    dispose(...tensors);
  }
}
