// How long a run is, and the learning rate along it.

import { describe, expect, test } from 'vitest';
import { learningRateAt, stepsPerEpoch, totalSteps } from '../../src/spec/schedule.ts';

describe('the length of a run', () => {
  test('an epoch ends with a short batch where the pictures do not divide', () => {
    expect(stepsPerEpoch({ batch: 128 }, 1280)).toBe(10);
    expect(stepsPerEpoch({ batch: 128 }, 1281)).toBe(11);
    expect(stepsPerEpoch({ batch: 128 }, 5)).toBe(1);
  });

  test.each([
    { epochs: 3, steps: undefined, total: 33 },
    { epochs: 0.5, steps: undefined, total: 6 },
    { epochs: 0.001, steps: undefined, total: 1 },
    { epochs: 3, steps: 20, total: 20 },
    { epochs: 1, steps: 20, total: 11 },
  ])('$epochs epochs of 11 steps, at most $steps steps, are $total steps', ({ epochs, steps, total }) => {
    expect(totalSteps({ batch: 128, epochs, ...(steps === undefined ? {} : { steps }) }, 1281)).toBe(total);
  });
});

describe('the learning rate', () => {
  const config = { batch: 10, lr: 0.02, lrSteps: [2, 5], lrGamma: 0.1 };
  const at = (step: number): number => learningRateAt(config, step, 95); // Ten steps an epoch.

  test.each([
    { step: 0, rate: 0.02 },
    { step: 19, rate: 0.02 },
    { step: 20, rate: 0.002 },
    { step: 49, rate: 0.002 },
    { step: 50, rate: 0.0002 },
    { step: 5000, rate: 0.0002 },
  ])('at step $step is $rate', ({ step, rate }) => {
    expect(at(step)).toBeCloseTo(rate, 12);
  });

  test('may fall in the middle of an epoch', () => {
    const halfway = { ...config, lrSteps: [0.5] };
    expect(learningRateAt(halfway, 4, 95)).toBe(0.02);
    expect(learningRateAt(halfway, 5, 95)).toBeCloseTo(0.002, 12);
  });

  test('stays as it is without steps', () => {
    expect(learningRateAt({ ...config, lrSteps: [] }, 10_000, 95)).toBe(0.02);
  });
});
