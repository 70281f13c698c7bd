// Prediction is the softmax of what evaluation scores: the same forward pass, without labels.

import { expect, onTestFinished, test } from 'vitest';
import { networks, planNetwork } from '../../src/spec/network.ts';
import { keyedMasks } from '../../src/tower/dropout.ts';
import { chooseKernels } from '../../src/tower/kernels.ts';
import { drawMerged } from './mergedWeights.ts';
import { drawBatch, relativeError } from './tensors.ts';
import { TowerPair } from './towerPair.ts';

const [pictures, classes] = [5, 10];

test('both towers give the same probabilities: the softmax of the logits, whose log is the loss of evaluation', async () => {
  const plan = planNetwork(networks.tiny, classes);
  const pair = new TowerPair({
    plan,
    kernels: chooseKernels(),
    dropout: { rate: 0.5, form: 'paper' },
    masks: (tower) => keyedMasks(1, tower, 0.5),
    microBatch: 2,
  });
  onTestFinished(() => {
    pair.close();
  });
  pair.loadMerged('weights', drawMerged(plan));
  const { images, labels } = drawBatch('predict', { pictures, size: plan.spec.inputSize, classes });
  const [zero, one] = await Promise.all(pair.towers.map((tower) => tower.predict(0, images)));
  expect(one).toEqual(zero);

  const logits = pair.logits();
  const expected = Array.from({ length: pictures }, (_, picture) => {
    const powers = [...logits.subarray(picture * classes, (picture + 1) * classes)].map(Math.exp);
    const sum = powers.reduce((total, power) => total + power, 0);
    return powers.map((power) => power / sum);
  }).flat();
  // An exponential multiplies the rounding of logits of about ten by ten.
  expect(relativeError(zero!, expected)).toBeLessThan(1e-5);

  const [scores] = await pair.evaluate(1, images, labels);
  const loss = [...labels.dataSync()].reduce((sum, label, i) => sum - Math.log(zero![i * classes + label]!), 0);
  expect(Math.abs(scores.lossSum / loss - 1)).toBeLessThan(1e-5);
});
