// From a config and the coordinator's decision to the rates of each block, with the clipping of the decision itself.

import { expect, test } from 'vitest';
import { decide } from '../../src/coordinator/decision.ts';
import { parseRunConfig } from '../../src/spec/config.ts';
import { updateRates } from '../../src/worker/trainingStep.ts';

test('biases take their own factors of rate and decay; a norm over both towers above the limit scales every gradient', () => {
  const config = parseRunConfig({ biasLr: 2, biasDecay: 0, clipNorm: 1 }, 'test');
  const report = { type: 'gradients', step: 1, loss: 1, finite: true, top1: 0, ms: 0 } as const;
  // Norms of 3 and 4: 5 over both towers.
  const reports = ([9, 16] as const).map((squaredNorm, i) => ({ ...report, tower: i as 0 | 1, squaredNorm }));
  const decision = decide(reports, config, { step: 1, learningRate: 0.25, skippedBefore: 0 });
  const rates = updateRates(config, { learningRate: 0.25, scale: decision.scale });

  expect(rates({ role: 'weight' })).toMatchObject({ learningRate: 0.25, momentum: 0.9, weightDecay: 0.0005 });
  expect(rates({ role: 'bias' })).toMatchObject({ learningRate: 0.5, momentum: 0.9, weightDecay: 0 });
  // A quotient of small integers: only rounding of one division.
  expect(rates({ role: 'weight' }).gradientScale).toBeCloseTo(0.2, 12);
  expect(rates({ role: 'bias' }).gradientScale).toBe(rates({ role: 'weight' }).gradientScale);
});
