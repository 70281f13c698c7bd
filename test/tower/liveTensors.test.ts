// Nothing leaks: the number of live tensors is the same after every step, and what a pair of towers made is gone when it is closed.

import { describe, expect, test } from 'vitest';
import { networks, planNetwork } from '../../src/spec/network.ts';
import type { NetworkPlan } from '../../src/spec/network.ts';
import { keyedMasks } from '../../src/tower/dropout.ts';
import { chooseKernels, portableKernels } from '../../src/tower/kernels.ts';
import { preparePictures } from '../../src/tower/pictures.ts';
import { dispose, liveTensors } from '../../src/tower/tensorflow.ts';
import { drawMerged } from './mergedWeights.ts';
import { drawBatch } from './tensors.ts';
import { switchedPlans } from './switches.ts';
import { TowerPair } from './towerPair.ts';

const classes = 10;
const plan = planNetwork(networks.tiny, classes);
const rates = { learningRate: 0.001, momentum: 0.9, weightDecay: 0.0005, gradientScale: 1 };

interface Variant {
  readonly variant: string;
  readonly kernels: 'chosen' | 'portable';
  readonly rate: number;
  readonly form: 'paper' | 'inverted';
  readonly momentum: number;
  readonly plan?: NetworkPlan;
  readonly trainOnly?: readonly string[];
}

const variants: readonly Variant[] = [
  { variant: "the paper's dropout, chosen kernels", kernels: 'chosen', rate: 0.5, form: 'paper', momentum: 0.9 },
  { variant: 'inverted dropout, portable kernels', kernels: 'portable', rate: 0.5, form: 'inverted', momentum: 0.9 },
  { variant: 'no dropout, no momentum', kernels: 'chosen', rate: 0, form: 'paper', momentum: 0 },
  ...[['fc7', 'fc8'], ['conv2', 'fc8'], ['conv5']].map((trainOnly) => ({
    ...{ variant: `only ${trainOnly.join(' and ')} trained`, trainOnly },
    ...({ kernels: 'chosen', rate: 0.5, form: 'paper', momentum: 0.9 } as const),
  })),
  ...switchedPlans(classes).map((switched) => ({
    ...switched,
    ...({ kernels: 'chosen', rate: 0.5, form: 'paper', momentum: 0.9 } as const),
  })),
];

function makePair({ kernels, rate, form, trainOnly, plan: own = plan }: Variant): TowerPair {
  const pair = new TowerPair({
    plan: own,
    trainOnly,
    kernels: kernels === 'chosen' ? chooseKernels() : portableKernels,
    dropout: { rate, form },
    masks: (tower) => keyedMasks(1, tower, rate),
    microBatch: 2,
  });
  pair.loadMerged('weights', drawMerged(own));
  return pair;
}

/** Trains on one batch, and counts what is alive afterwards. */
async function train(
  pair: TowerPair,
  step: number,
  { pictures, momentum }: { pictures: number; momentum: number },
): Promise<number> {
  const { images, labels } = drawBatch(`batch ${step}`, { pictures, size: plan.spec.inputSize, classes });
  const results = await pair.computeGradients(step, images, labels);
  dispose(images, labels);
  pair.applyGradients(results, () => ({ ...rates, momentum }));
  return liveTensors();
}

/** Scores one batch, and counts what is alive afterwards: the weights that the parameters lend until the next update among it. */
async function evaluate(pair: TowerPair, batch: number, pictures: number): Promise<number> {
  const { images, labels } = drawBatch(`batch ${batch}`, { pictures, size: plan.spec.inputSize, classes });
  await pair.evaluate(batch, images, labels);
  dispose(images, labels);
  return liveTensors();
}

/** Every batch a whole number of micro-batches, then short ones: a micro-batch and a half, half a one. */
const batchSizes = [4, 4, 4, 3, 1, 4];

describe.each(variants)('$variant', (variant) => {
  const { momentum } = variant;

  test('training holds as many tensors after every step, short batches included', async () => {
    const pair = makePair(variant);
    const counts: number[] = [];
    for (const [step, pictures] of batchSizes.entries()) counts.push(await train(pair, step, { pictures, momentum }));
    expect(new Set(counts).size).toBe(1);
    pair.close();
  });

  test('evaluation holds as many after every batch, short ones included', async () => {
    const pair = makePair(variant);
    const counts: number[] = [];
    for (const [batch, pictures] of batchSizes.entries()) counts.push(await evaluate(pair, batch, pictures));
    expect(new Set(counts).size).toBe(1);
    pair.close();
  });

  test('training and evaluating in turn adds nothing', async () => {
    const pair = makePair(variant);
    const trained: number[] = [];
    const evaluated: number[] = [];
    for (const [step, pictures] of batchSizes.entries()) {
      trained.push(await train(pair, step, { pictures, momentum }));
      evaluated.push(await evaluate(pair, step, pictures));
    }
    expect(new Set(trained).size).toBe(1);
    expect(new Set(evaluated).size).toBe(1);
    pair.close();
  });

  test('a step whose gradients are thrown away leaves what a step that is applied leaves', async () => {
    const pair = makePair(variant);
    const applied = await train(pair, 0, { pictures: 4, momentum });
    const { images, labels } = drawBatch('thrown away', { pictures: 4, size: plan.spec.inputSize, classes });
    const results = await pair.computeGradients(1, images, labels);
    dispose(images, labels);
    for (const { gradients } of results) dispose(...gradients.values());
    expect(await train(pair, 2, { pictures: 4, momentum })).toBe(applied);
    pair.close();
  });

  test('predicting holds as many after every batch', async () => {
    const pair = makePair(variant);
    const counts: number[] = [];
    for (const [batch, pictures] of batchSizes.entries()) {
      const { images, labels } = drawBatch(`batch ${batch}`, { pictures, size: plan.spec.inputSize, classes });
      await Promise.all(pair.towers.map((tower) => tower.predict(batch, images)));
      dispose(images, labels);
      counts.push(liveTensors());
    }
    expect(new Set(counts).size).toBe(1);
    pair.close();
  });

  test('closing the towers and their parameters leaves nothing', async () => {
    const before = liveTensors();
    const pair = makePair(variant);
    await train(pair, 0, { pictures: 3, momentum });
    await evaluate(pair, 0, 3);
    pair.close();
    expect(liveTensors()).toBe(before);
  });
});

test('initialising, saving and loading weights leaves as many tensors as before', () => {
  const pair = makePair(variants[0]!);
  const before = liveTensors();
  pair.parameters[0].initialise('paper', 1, 0);
  pair.loadMerged('momentum', pair.saveMerged('weights'));
  expect(liveTensors()).toBe(before);
  pair.close();
});

test.each([
  { channels: 1, size: 51, kernels: chooseKernels() },
  { channels: 3, size: 28, kernels: chooseKernels() },
  { channels: 3, size: 28, kernels: portableKernels },
])('preparing pictures of $channels channels leaves the pictures alone', ({ channels, size, kernels }) => {
  const before = liveTensors();
  const bytes = new Uint8Array(2 * 28 * 28 * channels).fill(7);
  const pictures = preparePictures(
    { count: 2, height: 28, width: 28, channels, bytes },
    { size, padding: 3, mean: [1, 2, 3], deviation: 2 },
    kernels.shiftPixels,
  );
  expect(liveTensors()).toBe(before + 1);
  pictures.dispose();
});
