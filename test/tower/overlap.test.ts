// What a part of the batch sends at the crossing travels while the next part comes to it.

import { expect, test } from 'vitest';
import type { SwapTag } from '../../src/spec/exchange.ts';
import { networks, planNetwork } from '../../src/spec/network.ts';
import { keyedMasks } from '../../src/tower/dropout.ts';
import { chooseKernels } from '../../src/tower/kernels.ts';
import { dispose } from '../../src/tower/tensorflow.ts';
import { drawMerged } from './mergedWeights.ts';
import { drawBatch } from './tensors.ts';
import { TowerPair } from './towerPair.ts';

test('a part waits for the peer only when the next part has sent as well, on the way forward and back', async () => {
  const plan = planNetwork(networks.tiny, 10);
  const seen: string[] = [];
  const see =
    (what: string) =>
    ({ site, phase, microBatch }: SwapTag, tower: number): void => {
      if (site === 'conv3' && tower === 0) seen.push(`${phase} ${what} ${microBatch}`);
    };
  const pair = new TowerPair({
    plan,
    kernels: chooseKernels(),
    dropout: { rate: 0.5, form: 'paper' },
    masks: (tower) => keyedMasks(1, tower, 0.5),
    microBatch: 2,
    onSwap: see('sends'),
    onWait: see('waits'),
  });
  pair.loadMerged('weights', drawMerged(plan));
  const { images, labels } = drawBatch('overlap', { pictures: 5, size: networks.tiny.inputSize, classes: 10 });
  const results = await pair.computeGradients(0, images, labels);
  const order = ['sends 0', 'sends 1', 'waits 0', 'sends 2', 'waits 1', 'waits 2'];
  expect(seen).toEqual(['forward', 'backward'].flatMap((phase) => order.map((what) => `${phase} ${what}`)));
  dispose(images, labels, ...results.flatMap(({ gradients }) => [...gradients.values()]));
  pair.close();
});
