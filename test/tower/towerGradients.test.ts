// The gradients of a whole pair of towers are those of the loss: central differences on weights of every block of both towers, through all
// eight layers, the crossings and the dropout masks of a training step.

import { afterAll, describe, expect, test } from 'vitest';
import { sizeOf, towers } from '../../src/spec/layout.ts';
import { networks, planNetwork } from '../../src/spec/network.ts';
import { randomBelow, randomKey } from '../../src/spec/random.ts';
import { keyedMasks } from '../../src/tower/dropout.ts';
import { chooseKernels } from '../../src/tower/kernels.ts';
import { dispose, download } from '../../src/tower/tensorflow.ts';
import { drawBatch, norm } from './tensors.ts';
import { drawMerged } from './mergedWeights.ts';
import { TowerPair } from './towerPair.ts';

const classes = 10;
const pictures = 6;
const plan = planNetwork(networks.tiny, classes);
const pair = new TowerPair({
  plan,
  kernels: chooseKernels(),
  dropout: { rate: 0.5, form: 'paper' },
  masks: (tower) => keyedMasks(1, tower, 0.5),
  microBatch: 4,
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

/** Moves a weight to `value` in every tower that holds it, and gives back what was there. */
function setWeight(name: string, at: number, value: number, holders: readonly (0 | 1)[]): number {
  let before = 0;
  for (const tower of holders) {
    const values = pair.parameters[tower].save(name, 'weights');
    before = values[at]!;
    values[at] = value;
    pair.parameters[tower].load(name, 'weights', values);
  }
  return before;
}

const h = 2 ** -11;
const weightsPerBlock = 4;

describe.each(towers)('tower %i', (tower) => {
  test.each(pair.parameters[tower].blocks.map((block) => [block.name, block] as const))('%s', async (name, block) => {
    const gradient = gradients[tower]!.get(name)!;
    const rms = norm(gradient) / Math.sqrt(gradient.length);
    expect(rms).toBeGreaterThan(1e-4);
    const key = randomKey(2, 'synthetic', `weights of ${name} tower ${tower}`);
    for (let draw = 0; draw < weightsPerBlock; draw++) {
      const at = randomBelow(key, draw, sizeOf(block.shape));
      const holders = block.replicated ? towers : [tower];
      const before = pair.parameters[tower].save(name, 'weights')[at]!;
      setWeight(name, at, before + h, holders);
      const up = await lossNow();
      setWeight(name, at, before - h, holders);
      const down = await lossNow();
      setWeight(name, at, before, holders);
      process.stderr.write(`FD ${Math.abs((up - down) / (2 * h) - gradient[at]!) / rms} ${name} ${rms} ${gradient[at]}\n`);
    }
  });
});
