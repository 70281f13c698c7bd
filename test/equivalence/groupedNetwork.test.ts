// Two towers are one grouped network: the same loss, logits and gradients as the network built in one piece from tfjs's own ops.

import tf from '@tensorflow/tfjs-node-gpu';
import { describe, expect, onTestFinished, test } from 'vitest';
import { networks, planNetwork } from '../../src/spec/network.ts';
import { keyedMasks } from '../../src/tower/dropout.ts';
import { chooseKernels, portableKernels } from '../../src/tower/kernels.ts';
import { drawMerged } from '../tower/mergedWeights.ts';
import { drawBatch, relativeError } from '../tower/tensors.ts';
import { switchedPlans } from '../tower/switches.ts';
import { TowerPair } from '../tower/towerPair.ts';
import { groupedPass } from './groupedNetwork.ts';

const classes = 10;
const pictures = 3;
const rate = 0.5;
const step = 3;

/**
 * float32 rounding of two computations in another order through eight layers and back: sums of up to 2400 products in each, 2^-24 times the
 * root of their number is 3e-6, and the layers' errors add up. In these draws no ReLU's input is closer to zero, and no two rivals of a pooling window to each
 * other, than 1.5e-5 of their root mean square: no decision tips over.
 */
const rounding = 1e-5;
/** Winograd's transforms multiply the rounding of a convolution's sums by up to 5 (src/tower/native/winograd.h). */
const roundingOfWinograd = 5 * rounding;

const chosen = chooseKernels();
const sums = { ...chosen, convolution: portableKernels.convolution };

const { tiny, compact } = networks;
describe.each([
  { name: 'tiny', plan: planNetwork(tiny, classes) },
  { name: 'compact', plan: planNetwork(compact, classes) },
  ...switchedPlans(classes).map(({ variant, plan }) => ({ name: `tiny with ${variant}`, plan })),
])('two towers of $name', ({ name, plan }) => {
  test.each([
    { form: 'paper', microBatch: 3, convolutions: "TensorFlow's", kernels: sums, tolerance: rounding },
    { form: 'inverted', microBatch: 2, convolutions: "TensorFlow's", kernels: sums, tolerance: rounding },
    { form: 'inverted', microBatch: 2, convolutions: 'the chosen', kernels: chosen, tolerance: roundingOfWinograd },
  ] as const)(
    'with $form dropout, $microBatch pictures at a time, $convolutions convolutions, are one grouped network',
    async ({ form, microBatch, kernels, tolerance }) => {
      const weights = drawMerged(plan);
      const { images, labels } = drawBatch(name, { pictures, size: plan.spec.inputSize, classes });
      const masks = ([0, 1] as const).map((tower) => keyedMasks(1, tower, rate));
      const pair = new TowerPair({
        plan,
        kernels,
        dropout: { rate, form },
        masks: (tower) => masks[tower]!,
        microBatch,
      });
      onTestFinished(() => {
        pair.close();
      });
      pair.loadMerged('weights', weights);
      const results = await pair.computeGradients(step, images, labels);
      const [zero, one] = results;

      const factor = form === 'paper' ? 1 : 1 / (1 - rate);
      const merged = plan.denses
        .filter(({ spec }) => spec.hidden)
        .map(({ spec, units }): [string, tf.Tensor] => {
          const halves = masks.map((draw) => draw({ layer: spec.name, step, shape: [pictures, units] }));
          return [spec.name, tf.mul(tf.concat(halves, 1), factor)];
        });
      const whole = groupedPass(plan, weights, { images, labels, masks: new Map(merged) });

      expect(one.scores).toEqual(zero.scores);
      expect(relativeError([zero.scores.lossSum / pictures], [whole.loss])).toBeLessThan(tolerance);
      expect(relativeError(pair.logits(), whole.logits)).toBeLessThan(tolerance);
      const gradients = pair.mergeGradients(results);
      expect([...gradients.keys()]).toEqual([...whole.gradients.keys()]);
      let squaredNorm = 0;
      for (const [parameter, expected] of whole.gradients) {
        expect(relativeError(gradients.get(parameter)!, expected), parameter).toBeLessThan(tolerance);
        squaredNorm += expected.reduce((sum, value) => sum + value ** 2, 0);
      }
      expect(relativeError([zero.squaredNorm + one.squaredNorm], [squaredNorm])).toBeLessThan(tolerance);
    },
  );

  test('hold the same bits where they hold the same thing: the gradient of the last bias', async () => {
    const pair = new TowerPair({
      plan,
      kernels: chosen,
      dropout: { rate, form: 'paper' },
      masks: (tower) => keyedMasks(1, tower, rate),
      microBatch: 2,
    });
    onTestFinished(() => {
      pair.close();
    });
    pair.loadMerged('weights', drawMerged(plan));
    const { images, labels } = drawBatch(name, { pictures, size: plan.spec.inputSize, classes });
    const [zero, one] = await pair.computeGradients(step, images, labels);
    const lastBias = [zero, one].map(({ gradients }) => gradients.get('fc8.bias')!.dataSync());
    expect(lastBias[0]).toEqual(lastBias[1]);
  });
});
