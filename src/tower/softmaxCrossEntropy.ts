// The loss (paper, section 3): softmax over the K classes, then the negative log of the true class's share, averaged over the N pictures.
// logits [N,K], labels int32 [N]. N here is the pictures of the whole step, whatever part of them is at hand.

import {
  attribute,
  canRun,
  dispose,
  download,
  downloadScalar,
  float32,
  multiply,
  runOp,
  runOpMany,
  scalar,
  uploadInt32,
} from './tensorflow.ts';
import type { Tensor } from './tensorflow.ts';
import tf from '@tensorflow/tfjs-node-gpu';

export interface Scores {
  /** Sum of the losses of the pictures at hand. */
  readonly lossSum: number;
  /** Pictures whose class has the highest logit, and one of the five highest. */
  readonly top1: number;
  readonly top5: number;
}

const lossAttributes = [float32, attribute.type('Tlabels', 'int32')];
const topAttributes = [attribute.type('T', 'int32')];

/** Scores the logits, and gives dLogits [N,K] = (softmax - one-hot) / stepPictures. */
export type SoftmaxCrossEntropy = (logits: Tensor, labels: Tensor, stepPictures: number) => { scores: Scores; dLogits: Tensor };

/** By TensorFlow's ops, on every device. */
export const portableSoftmaxCrossEntropy: SoftmaxCrossEntropy = (logits, labels, stepPictures) => {
  const [losses, gradients] = runOpMany('SparseSoftmaxCrossEntropyWithLogits', lossAttributes, [logits, labels], 2) as [
    Tensor,
    Tensor,
  ];
  const share = scalar(1 / stepPictures);
  const dLogits = multiply(gradients, share);
  const lossSum = tf.sum(losses);
  const scores = {
    lossSum: downloadScalar(lossSum),
    top1: countInTop(1, logits, labels),
    top5: countInTop(5, logits, labels),
  };
  dispose(losses, gradients, share, lossSum);
  return { scores, dLogits };
};

function countInTop(k: number, logits: Tensor, labels: Tensor): number {
  const limit = tf.scalar(k, 'int32');
  const hits = runOp('InTopKV2', topAttributes, [logits, labels, limit]);
  // A byte a picture: two ops more would cost more than to count them here.
  const count = hits.dataSync<'bool'>().reduce((sum, hit) => sum + hit, 0);
  dispose(limit, hits);
  return count;
}

/** By our own op (native/loss.cc), in one pass over the logits. */
export const nativeSoftmaxCrossEntropy: SoftmaxCrossEntropy = (logits, labels, stepPictures) => {
  const attributes = [attribute.int('pictures', stepPictures)];
  const [dLogits, scored] = runOpMany('CrosstowerLoss', attributes, [logits, labels], 2) as [Tensor, Tensor];
  const [lossSum = NaN, top1 = NaN, top5 = NaN] = download(scored).values;
  scored.dispose();
  return { scores: { lossSum, top1, top5 }, dLogits };
};

/** Whether the binding has our op: one picture of one class. */
export function hasNativeSoftmaxCrossEntropy(): boolean {
  return canRun(() => nativeSoftmaxCrossEntropy(tf.ones([1, 1]), uploadInt32(Int32Array.of(0), [1]), 1));
}
