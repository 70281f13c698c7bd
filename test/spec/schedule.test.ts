// How long a run is, and the learning rate along it.

import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { parseRunConfig } from '../../src/spec/config.ts';
import {
  initialScheduleState,
  learningRateAt,
  scheduleAfterEvaluation,
  stepsPerEpoch,
  totalSteps,
} from '../../src/spec/schedule.ts';
import type { ScheduleChoice, ScheduleState } from '../../src/spec/schedule.ts';

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

const trainCount = 95;
const base = parseRunConfig({ batch: 10, epochs: 12, lr: 0.02 }, 'test'); // Ten steps an epoch.

describe('the step schedule', () => {
  const config: ScheduleChoice = { ...base, lrScheduler: 'step', lrSteps: [2, 5.5] };
  test.each([
    { step: 0, rate: 0.02 },
    { step: 19, rate: 0.02 },
    { step: 20, rate: 0.002 },
    { step: 54, rate: 0.002 },
    { step: 55, rate: 0.0002 },
    { step: 5000, rate: 0.0002 },
  ])('at step $step gives $rate', ({ step, rate }) => {
    expect(learningRateAt(config, step, trainCount, initialScheduleState)).toBeCloseTo(rate, 12);
  });
});

test('the exponential schedule falls in equal factors over equal stretches, and ends at its minimum', () => {
  const config: ScheduleChoice = { ...base, lrScheduler: 'exponential', lrDrops: 3, lrMin: 0.02 / 1000 };
  const rates = [0, 29, 30, 60, 90, 119, 500].map((step) => learningRateAt(config, step, trainCount, initialScheduleState));
  for (const [i, rate] of [0.02, 0.02, 0.002, 0.0002, 0.00002, 0.00002, 0.00002].entries()) {
    expect(rates[i]).toBeCloseTo(rate, 12);
  }
});

test('the cosine schedule is halfway down in the middle of the run', () => {
  const config: ScheduleChoice = { ...base, lrScheduler: 'cosine', lrMin: 0.01 };
  const rates = [0, 60, 120].map((step) => learningRateAt(config, step, trainCount, initialScheduleState));
  expect(rates[0]).toBeCloseTo(0.02, 12);
  expect(rates[1]).toBeCloseTo(0.015, 12);
  expect(rates[2]).toBeCloseTo(0.01, 12);
});

test('a warm-up rises in a straight line', () => {
  const config: ScheduleChoice = { ...base, lrScheduler: 'constant', lrWarmupEpochs: 2, lrWarmupDecay: 0.1 };
  const rates = [0, 10, 20, 21].map((step) => learningRateAt(config, step, trainCount, initialScheduleState));
  for (const [i, rate] of [0.002, 0.011, 0.02, 0.02].entries()) expect(rates[i]).toBeCloseTo(rate, 12);
});

/** The states after each of these scores, the first before any. */
function statesAfter(top1s: readonly number[], config = { lrPatience: 2, lrDrops: 2 }): ScheduleState[] {
  const states = [initialScheduleState];
  for (const top1 of top1s) states.push(scheduleAfterEvaluation(config, states.at(-1)!, { top1 }));
  return states;
}

describe('the plateau schedule', () => {
  test('drops when the best error has stood for the patience, and again only after another patience', () => {
    expect(statesAfter([0.5, 0.6, 0.6, 0.5, 0.6, 0.7, 0.1, 0.1, 0.1, 0.1]).map(({ drops }) => drops)).toEqual([
      0, 0, 0, 0, 1, 1, 1, 1, 2, 2, 2,
    ]);
  });

  test('takes scores that are not numbers for no better', () => {
    expect(statesAfter([NaN, NaN])).toEqual([
      initialScheduleState,
      { bestError: null, evaluationsSince: 1, drops: 0 },
      { bestError: null, evaluationsSince: 0, drops: 1 },
    ]);
  });

  test('goes on from a state that went through a checkpoint as if it had never stopped', () => {
    fc.assert(
      fc.property(fc.array(fc.double({ min: 0, max: 1, noNaN: true })), fc.nat(), (top1s, at) => {
        const states = statesAfter(top1s);
        const cut = at % states.length;
        let state = JSON.parse(JSON.stringify(states[cut])) as ScheduleState;
        for (const top1 of top1s.slice(cut)) state = scheduleAfterEvaluation({ lrPatience: 2, lrDrops: 2 }, state, { top1 });
        expect(state).toEqual(states.at(-1));
      }),
    );
  });
});

test('every schedule stays between its bounds, and never rises after the warm-up', () => {
  const schedulers = ['plateau', 'step', 'exponential', 'cosine', 'constant'] as const;
  fc.assert(
    fc.property(
      fc.constantFrom(...schedulers),
      fc.integer({ min: 0, max: 5 }),
      fc.integer({ min: 1, max: 5 }),
      (name, warm, n) => {
        const config = { ...base, lrScheduler: name, lrSteps: [1, n + 1], lrMin: 0.0001, lrDrops: n, lrWarmupEpochs: warm };
        const states = statesAfter(Array<number>(200).fill(0.5), { lrPatience: 2, lrDrops: n });
        const rates = Array.from({ length: 130 }, (_, step) => learningRateAt(config, step, trainCount, states[step]!));
        for (const rate of rates) {
          expect(rate).toBeGreaterThan(0);
          expect(rate).toBeLessThanOrEqual(config.lr);
        }
        for (let step = warm * 10 + 1; step < rates.length; step++) expect(rates[step]).toBeLessThanOrEqual(rates[step - 1]!);
      },
    ),
  );
});
