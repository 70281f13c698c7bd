// Dropout (paper, section 4.2): in training each unit is kept with probability 1 - p, by a mask of ones and zeros.
// `paper`: outputs times 1 - p at test time. `inverted`: the kept ones times 1 / (1 - p) in training, nothing at test time.
// Masks are pure functions of (seed, layer, tower, step), so that a resumed run and any number of replicas see the same ones.

import { randomKey } from '../spec/random.ts';
import type { TowerIndex } from '../spec/layout.ts';
import type { Shard } from '../spec/shards.ts';
import { attribute, multiply, runOp, scalar } from './tensorflow.ts';
import type { Tensor } from './tensorflow.ts';
import tf from '@tensorflow/tfjs-node-gpu';

export interface DropoutRule {
  /** p, in [0, 1). */
  readonly rate: number;
  readonly form: 'paper' | 'inverted';
}

export interface MaskDraw {
  readonly layer: string;
  readonly step: number;
  readonly shape: readonly [number, number];
  /** Which rows of the batch the shape's are; its all, if absent. */
  readonly shard?: Shard | undefined;
}

/** Ones and zeros of a given shape for one layer at one step. */
export type MaskSource = (draw: MaskDraw) => Tensor;

const uniformAttributes = [attribute.type('dtype', 'float32'), attribute.type('T', 'int32'), attribute.type('Tseed', 'int32')];

/** Keyed masks: TensorFlow's counter-based generator under a key of ours. A shard gets its rows of the whole batch's mask. */
export function keyedMasks(seed: number, tower: TowerIndex, rate: number): MaskSource {
  return ({ layer, step, shape: [pictures, units], shard }) =>
    tf.tidy(() => {
      const key = randomKey(seed, 'dropout', `${layer} tower ${String(tower)}`, step);
      const uniform = runOp('StatelessRandomUniform', uniformAttributes, [
        tf.tensor1d([shard?.of ?? pictures, units], 'int32'),
        tf.tensor1d(Int32Array.from(key), 'int32'),
      ]);
      const rows =
        shard === undefined || shard.of === pictures ? uniform : tf.slice(uniform, [shard.first, 0], [pictures, units]);
      return tf.cast(tf.greaterEqual(rows, rate), 'float32');
    });
}

/** Scales the mask by the rule's factor for training: what the forward and the backward pass both multiply by. */
export function trainingMask(mask: Tensor, rule: DropoutRule): Tensor {
  return rule.form === 'paper' ? mask.clone() : multiplyBy(mask, 1 / (1 - rule.rate));
}

/** Training: y = x * mask. */
export function dropoutForward(x: Tensor, mask: Tensor): Tensor {
  return multiply(x, mask);
}

/** dx = dy * mask. */
export function dropoutBackward(dy: Tensor, mask: Tensor): Tensor {
  return multiply(dy, mask);
}

/** Test time: y = x * (1 - p) in the paper's form, x itself in the inverted one. */
export function dropoutAtTest(x: Tensor, rule: DropoutRule): Tensor {
  return rule.form === 'paper' ? multiplyBy(x, 1 - rule.rate) : x.clone();
}

function multiplyBy(x: Tensor, factor: number): Tensor {
  const tensor = scalar(factor);
  const y = multiply(x, tensor);
  tensor.dispose();
  return y;
}
