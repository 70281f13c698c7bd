// The gradients of a whole pair of towers are those of the loss: central differences on weights of every block of both towers, through all
// eight layers, the crossings and the dropout masks of a training step.

import { afterAll, describe, expect, test } from 'vitest';
import { sizeOf, towers } from '../../src/spec/layout.ts';
import type { TowerIndex } from '../../src/spec/layout.ts';
import { networks, planNetwork } from '../../src/spec/network.ts';
import { randomBelow, randomKey } from '../../src/spec/random.ts';
import { keyedMasks } from '../../src/tower/dropout.ts';
import { chooseKernels } from '../../src/tower/kernels.ts';
import { dispose, download } from '../../src/tower/tensorflow.ts';
import { drawBatch, norm } from './tensors.ts';
import { drawMerged } from './mergedWeights.ts';
import { TowerPair } from './towerPair.ts';

const classes = 10;
const pictures = 4;
const plan = planNetwork(networks.tiny, classes);
const pair = new TowerPair({
  plan,
  kernels: chooseKernels(),
  dropout: { rate: 0.5, form: 'paper' },
  masks: (tower) => keyedMasks(1, tower, 0.5),
  microBatch: 3,
});
pair.loadMerged('weights', drawMerged(plan));
const { images, labels } = drawBatch('gradients', { pictures, size: networks.tiny.inputSize, classes });
afterAll(() => {
  dispose(images, labels);
  pair.close();
});

/** The mean loss of the training step. */
async function lossNow(): Promise<number> {
  const results = await pair.computeGradients(0, images, labels);
  for (const { gradients } of results) dispose(...gradients.values());
  return results[0].scores.lossSum / pictures;
}

const results = await pair.computeGradients(0, images, labels);
const gradients = towers.map(
  (tower) => new Map([...results[tower].gradients].map(([name, tensor]) => [name, download(tensor).values])),
);

/** Sets one weight in every tower that holds it. */
function setWeight(holders: readonly TowerIndex[], name: string, at: number, value: number): void {
  for (const tower of holders) {
    const values = pair.parameters[tower].save(name, 'weights');
    values[at] = value;
    pair.parameters[tower].load(name, 'weights', values);
  }
}

/**
 * The loss is known to about 1e-6, so a step must not be too small; and within a larger one some ReLU or pooling decision tips over. Weights
 * meet pictures and maps of about 8, biases count once: hence a larger step for them.
 */
const step = { weight: 2 ** -9, bias: 2 ** -6 } as const;
/** What both errors leave, as a share of the block's root mean square gradient; a slip in a gradient is of the order of 1. */
const differenceError = 0.05;
const weightsPerBlock = 3;

describe.each(towers)('tower %i', (tower) => {
  test.each(pair.parameters[tower].blocks.map((block) => ({ ...block })))('$name', async (block) => {
    const { name } = block;
    const holders = block.replicated ? towers : [tower];
    const gradient = gradients[tower]!.get(name)!;
    const scale = norm(gradient) / Math.sqrt(gradient.length);
    expect(scale).toBeGreaterThan(0.01);
    const h = step[block.role];
    const key = randomKey(2, 'synthetic', `weights of ${name} tower ${tower}`);
    for (let draw = 0; draw < weightsPerBlock; draw++) {
      const at = randomBelow(key, draw, sizeOf(block.shape));
      const before = pair.parameters[tower].save(name, 'weights')[at]!;
      setWeight(holders, name, at, before + h);
      const up = await lossNow();
      setWeight(holders, name, at, before - h);
      const down = await lossNow();
      setWeight(holders, name, at, before);
      expect(Math.abs((up - down) / (2 * h) - gradient[at]!) / scale).toBeLessThan(differenceError);
    }
  });
});
