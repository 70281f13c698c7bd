// R pairs of towers on shards of a batch take the steps that one pair takes on the whole of it: the same to rounding, the same bytes in every
// replica, and the same bytes again when the steps are taken again.

import { describe, expect, test } from 'vitest';
import { networks, planNetwork } from '../../src/spec/network.ts';
import { shardsOf } from '../../src/spec/shards.ts';
import { keyedMasks } from '../../src/tower/dropout.ts';
import { chooseKernels } from '../../src/tower/kernels.ts';
import { dispose, liveTensors } from '../../src/tower/tensorflow.ts';
import tf from '@tensorflow/tfjs-node-gpu';
import { memoryRing } from '../protocol/rings.ts';
import { drawMerged } from './mergedWeights.ts';
import { drawBatch, relativeError } from './tensors.ts';
import { TowerPair } from './towerPair.ts';
import type { Merged } from './towerPair.ts';

const classes = 10;
const plan = planNetwork(networks.tiny, classes);
/** No number of replicas divides it. */
const pictures = 7;
const clipNorm = 1;
const rates = { learningRate: 0.002, momentum: 0.9, weightDecay: 0.0005 };

interface Trained {
  readonly weights: Merged;
  readonly velocities: Merged;
  readonly losses: readonly number[];
  /** Of the whole gradient, before it is clipped. */
  readonly norms: readonly number[];
}

/** Trains pairs with dropout, weight decay and clipping; gives what each of them ends with. */
async function train(replicas: number, steps: number, trainOnly?: readonly string[]): Promise<Trained[]> {
  const rings = replicas === 1 ? undefined : await Promise.all([memoryRing(replicas), memoryRing(replicas)]);
  const pairs = shardsOf(pictures, replicas).map((shard, replica) => {
    const pair = new TowerPair({
      plan,
      trainOnly,
      kernels: chooseKernels(),
      dropout: { rate: 0.5, form: 'paper' },
      masks: (tower) => keyedMasks(1, tower, 0.5),
      microBatch: 2,
      ...(rings === undefined ? {} : { gradientSums: [rings[0][replica]!, rings[1][replica]!] as const }),
    });
    pair.loadMerged('weights', drawMerged(plan));
    return { pair, shard };
  });
  const losses: number[] = [];
  const norms: number[] = [];
  const alive: number[] = [];
  for (let step = 1; step <= steps; step++) {
    const { images, labels } = drawBatch(`step ${step}`, { pictures, size: plan.spec.inputSize, classes });
    const results = await Promise.all(
      pairs.map(async ({ pair, shard }) => {
        const own = tf.slice(images, [shard.first, 0, 0, 0], [shard.count, ...images.shape.slice(1)]);
        const ownLabels = tf.slice(labels, [shard.first], [shard.count]);
        const result = await pair.computeGradients(step, own, ownLabels, replicas === 1 ? undefined : shard);
        dispose(own, ownLabels);
        return result;
      }),
    );
    const norm = Math.sqrt(results[0]![0].squaredNorm + results[0]![1].squaredNorm);
    losses.push(results.reduce((sum, [zero]) => sum + zero.scores.lossSum, 0) / pictures);
    norms.push(norm);
    const gradientScale = Math.min(1, clipNorm / norm);
    for (const [i, { pair }] of pairs.entries()) pair.applyGradients(results[i]!, () => ({ ...rates, gradientScale }));
    dispose(images, labels);
    alive.push(liveTensors());
  }
  expect(new Set(alive).size).toBe(1);
  return pairs.map(({ pair }) => {
    const trained = { weights: pair.saveMerged('weights'), velocities: pair.saveMerged('momentum'), losses, norms };
    pair.close();
    return trained;
  });
}

const steps = 6;
/**
 * Two sums of the same fp32 products in another order differ by a few roundings of 2^-24 = 6e-8 of the largest value, in the first step as in
 * the sixth: 1e-7 to 5e-7 is what comes out, and the batches keep ReLU and pooling decisions clear of that. A wrong divisor, another mask or
 * a picture left out is of the order of 1.
 */
const rounding = 2e-6;

function largestError(actual: Merged, expected: Merged): number {
  return Math.max(...[...expected].map(([name, values]) => relativeError(actual.get(name)!, values)));
}

const [whole] = await train(1, steps);

describe.each([2, 3])('%i replicas', (replicas) => {
  test('take the steps of one pair on the whole batch, with dropout, weight decay, clipping and shards of unequal size', async () => {
    expect(Math.min(...whole!.norms)).toBeGreaterThan(clipNorm);
    const [first] = await train(replicas, steps);
    expect(largestError(first!.weights, whole!.weights)).toBeLessThan(rounding);
    expect(largestError(first!.velocities, whole!.velocities)).toBeLessThan(rounding);
    expect(relativeError(first!.losses, whole!.losses)).toBeLessThan(rounding);
    expect(relativeError(first!.norms, whole!.norms)).toBeLessThan(rounding);
  });

  test('end with the same bytes in each of them, and with the same when they train again', async () => {
    const [first, ...others] = await train(replicas, 3);
    for (const other of others) expect(other).toEqual(first);
    expect((await train(replicas, 3))[0]).toEqual(first);
  });

  test('sum what is trained where some layers are frozen', async () => {
    const trainOnly = ['conv5', 'fc8'];
    const [[frozen], [first]] = [await train(1, 2, trainOnly), await train(replicas, 2, trainOnly)];
    expect(largestError(first!.velocities, frozen!.velocities)).toBeLessThan(rounding);
    expect(first!.weights.get('fc6.weight')).toEqual(frozen!.weights.get('fc6.weight'));
    expect(first!.weights.get('fc8.weight')).not.toEqual(frozen!.weights.get('fc6.weight'));
  });
});
