// Three whole steps of two `tiny` towers give PyTorch's float64 numbers for the one grouped network (test/golden/tiny-steps.json).

import { describe, expect, onTestFinished, test } from 'vitest';
import type { TensorData } from '../../src/spec/exchange.ts';
import type { TowerIndex } from '../../src/spec/layout.ts';
import { networks, planNetwork } from '../../src/spec/network.ts';
import type { MaskSource } from '../../src/tower/dropout.ts';
import { chooseKernels, portableKernels } from '../../src/tower/kernels.ts';
import { upload, uploadInt32 } from '../../src/tower/tensorflow.ts';
import { relativeError } from '../tower/tensors.ts';
import { TowerPair } from '../tower/towerPair.ts';
import type { Merged } from '../tower/towerPair.ts';
import { tinySteps } from './goldenFiles.ts';

const golden = tinySteps();
const { header } = golden;
const plan = planNetwork(networks.tiny, header.classes);

/**
 * float32 rounding through eight layers and back: sums of up to 600 products in each, 2^-24 times the root of their number is 1.5e-6, and
 * the layers' errors add up. The file's draw keeps every ReLU and pooling decision clear of that.
 */
const rounding = 5e-6;

/** The tower's half of the step's mask. */
function goldenMasks(tower: TowerIndex): MaskSource {
  return ({ layer, step, shape: [pictures, units] }) => {
    const whole = golden.steps[step]!.masks[layer]!.values;
    const half = Float32Array.from(
      { length: pictures * units },
      (_, i) => whole[Math.floor(i / units) * 2 * units + tower * units + (i % units)]!,
    );
    return upload({ shape: [pictures, units], values: half });
  };
}

function valuesByName(arrays: Readonly<Record<string, TensorData>>): Merged {
  return new Map(Object.entries(arrays).map(([name, { values }]) => [name, values]));
}

function errorsByName(actual: Merged, expected: Readonly<Record<string, TensorData>>): Record<string, number> {
  expect([...actual.keys()].sort()).toEqual(Object.keys(expected).sort());
  return Object.fromEntries([...actual].map(([name, values]) => [name, relativeError(values, expected[name]!.values)]));
}

function largest(errors: Readonly<Record<string, number>>): number {
  return Math.max(...Object.values(errors));
}

describe.each([
  { kernels: 'chosen', microBatch: 4 },
  { kernels: 'chosen', microBatch: 3 }, // And the fourth by itself.
  { kernels: 'chosen', microBatch: 1 },
  { kernels: 'portable', microBatch: 4 },
  { kernels: 'portable', microBatch: 1 },
])('two towers with $kernels kernels, $microBatch pictures at a time', ({ kernels, microBatch }) => {
  test('take the three steps, and then score as PyTorch does', async () => {
    const pair = new TowerPair({
      plan,
      kernels: kernels === 'chosen' ? chooseKernels() : portableKernels,
      dropout: { rate: header.dropout, form: header.dropoutForm },
      masks: goldenMasks,
      microBatch,
    });
    onTestFinished(() => {
      pair.close();
    });
    pair.loadMerged('weights', valuesByName(golden.parameters));

    for (const [index, step] of golden.steps.entries()) {
      const results = await pair.computeGradients(index, upload(step.images), uploadInt32(step.labels, [step.labels.length]));
      const [zero, one] = results;
      expect(relativeError(pair.logits(), step.logits.values)).toBeLessThan(rounding);
      expect(one.scores).toEqual(zero.scores);
      expect(relativeError([zero.scores.lossSum / step.labels.length], [step.loss])).toBeLessThan(rounding);
      expect(relativeError([zero.squaredNorm + one.squaredNorm], [step.gradientSquaredNorm])).toBeLessThan(rounding);
      expect(largest(errorsByName(pair.mergeGradients(results), step.gradients))).toBeLessThan(rounding);
      pair.applyGradients(results, () => ({
        learningRate: header.lr,
        momentum: header.momentum,
        weightDecay: header.weightDecay,
        gradientScale: 1,
      }));
    }

    expect(largest(errorsByName(pair.saveMerged('weights'), golden.finalParameters))).toBeLessThan(rounding);
    expect(largest(errorsByName(pair.saveMerged('momentum'), golden.finalVelocities))).toBeLessThan(rounding);

    const { imagesOfStep, logits, loss } = golden.evaluation;
    const { images, labels } = golden.steps[imagesOfStep]!;
    const [scores] = await pair.evaluate(0, upload(images), uploadInt32(labels, [labels.length]));
    expect(relativeError(pair.logits(), logits.values)).toBeLessThan(rounding);
    expect(relativeError([scores.lossSum / labels.length], [loss])).toBeLessThan(rounding);
  });
});
