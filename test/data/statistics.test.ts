import { expect, test } from 'vitest';
import { pixelStatistics } from '../../src/data/statistics.ts';
import { memoryStore } from './memoryStore.ts';

test('mean and deviation are those of the textbook formulas, per channel', () => {
  const store = memoryStore({ height: 5, width: 7, channels: 3 }, 11);
  const { mean, deviation } = pixelStatistics(store, 11);
  for (let channel = 0; channel < 3; channel++) {
    const values = [...store.pixels].filter((_, i) => i % 3 === channel);
    const average = values.reduce((sum, value) => sum + value, 0) / values.length;
    const variance = values.reduce((sum, value) => sum + (value - average) ** 2, 0) / values.length;
    // The sums are taken in another order: a few roundings apart.
    expect(mean[channel]).toBeCloseTo(average, 10);
    expect(deviation[channel]).toBeCloseTo(Math.sqrt(variance), 10);
  }
});

test('only the first pictures count when so asked', () => {
  const store = memoryStore({ height: 2, width: 2, channels: 1 }, 4, { byteAt: (i) => (i < 8 ? 10 : 200) });
  expect(pixelStatistics(store, 2)).toEqual({ mean: [10], deviation: [0], covariance: [[0]] });
  expect(pixelStatistics(store, 4)).toEqual({ mean: [105], deviation: [95], covariance: [[95 ** 2]] });
});
