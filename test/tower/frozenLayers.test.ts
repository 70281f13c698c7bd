// Layers that are not trained: no gradient, no update, no backward pass below the lowest trained one; what is trained gets the gradients that
// it has in a network trained as a whole.

import { describe, expect, onTestFinished, test } from 'vitest';
import type { SwapTag } from '../../src/spec/exchange.ts';
import { towers } from '../../src/spec/layout.ts';
import { networks, planNetwork } from '../../src/spec/network.ts';
import { keyedMasks } from '../../src/tower/dropout.ts';
import { chooseKernels } from '../../src/tower/kernels.ts';
import { dispose, download } from '../../src/tower/tensorflow.ts';
import { drawMerged } from './mergedWeights.ts';
import { drawBatch, inner } from './tensors.ts';
import { TowerPair } from './towerPair.ts';

const classes = 10;
const plan = planNetwork(networks['tiny-one-tower'], classes);
const { images, labels } = drawBatch('frozen', { pictures: 4, size: plan.spec.inputSize, classes });

interface Outcome {
  /** Of each tower: values by block. */
  readonly gradients: readonly ReadonlyMap<string, Float32Array>[];
  readonly squaredNorms: readonly number[];
  /** Sites that sent something backward. */
  readonly sites: ReadonlySet<string>;
  readonly pair: TowerPair;
}

/** One step with the given layers trained; the gradients are applied. */
async function step(trainOnly?: readonly string[]): Promise<Outcome> {
  const tags: SwapTag[] = [];
  const pair = new TowerPair({
    plan,
    trainOnly,
    kernels: chooseKernels(),
    dropout: { rate: 0.5, form: 'paper' },
    masks: (tower) => keyedMasks(1, tower, 0.5),
    microBatch: 3,
    onSwap: (tag) => tags.push(tag),
  });
  onTestFinished(() => {
    pair.close();
  });
  pair.loadMerged('weights', drawMerged(plan));
  const results = await pair.computeGradients(0, images, labels);
  const gradients = results.map(
    (one) => new Map([...one.gradients].map(([name, tensor]) => [name, download(tensor).values.slice()])),
  );
  pair.applyGradients(results, () => ({ learningRate: 0.01, momentum: 0.9, weightDecay: 0.0005, gradientScale: 1 }));
  return {
    gradients,
    squaredNorms: results.map(({ squaredNorm }) => squaredNorm),
    sites: new Set(tags.filter(({ phase }) => phase === 'backward').map(({ site }) => site)),
    pair,
  };
}

describe.each([
  { trainOnly: ['fc7', 'fc8'], sent: [] },
  { trainOnly: ['fc8'], sent: [] },
  { trainOnly: ['conv5', 'fc7'], sent: ['fc6', 'fc7'] },
  { trainOnly: ['conv2'], sent: ['conv2.lrn', 'conv3', 'conv4', 'conv5', 'fc6', 'fc7'] },
])('where only $trainOnly are trained', ({ trainOnly, sent }) => {
  test('they get the gradients of the whole network, to the bit, and nothing else gets any', async () => {
    const [whole, part] = [await step(), await step(trainOnly)];
    for (const tower of towers) {
      const expected = [...whole.gradients[tower]!].filter(([name]) => trainOnly.includes(name.split('.')[0]!));
      expect(new Map(part.gradients[tower])).toEqual(new Map(expected));
      const counted = expected.filter(([name]) => tower === 0 || name !== 'fc8.bias');
      const squaredNorm = counted.reduce((sum, [, values]) => sum + inner(values, values), 0);
      // float32 sums of up to 3000 squares.
      expect(Math.abs(part.squaredNorms[tower]! / squaredNorm - 1)).toBeLessThan(1e-5);
    }
  });

  test('the others keep their weights to the bit, and the trained ones move', async () => {
    const { pair } = await step(trainOnly);
    const before = drawMerged(plan);
    for (const [name, values] of pair.saveMerged('weights')) {
      if (trainOnly.includes(name.split('.')[0]!)) expect(values, name).not.toEqual(before.get(name));
      else expect(values, name).toEqual(before.get(name));
    }
  });

  test("no input's gradient is sent at the lowest of them, and nothing below", async () => {
    const { sites } = await step(trainOnly);
    expect([...sites].sort()).toEqual(sent);
  });
});

test('a network trained as a whole sends back at every crossing', async () => {
  const { sites } = await step();
  expect([...sites].sort()).toEqual(['conv1.lrn', 'conv2', 'conv2.lrn', 'conv3', 'conv4', 'conv5', 'fc6', 'fc7']);
});

test('dropout goes on in layers that are frozen', async () => {
  const { pair } = await step(['fc8']);
  const [training] = await pair.computeGradients(5, images, labels);
  const [other] = await pair.computeGradients(6, images, labels);
  expect(training.scores.lossSum).not.toBe(other.scores.lossSum);
  dispose(...training.gradients.values(), ...other.gradients.values());
});
