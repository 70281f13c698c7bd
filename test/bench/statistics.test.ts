import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { distribution, mean, median, pairedRatio, quantile, spread } from '../../bench/statistics.ts';

const times = fc.array(fc.double({ min: 0.001, max: 1e6, noNaN: true }), { minLength: 1, maxLength: 40 });

describe('statistics', () => {
  test('the median of an even number of values lies between the middle two', () => {
    expect(median([4, 1, 3, 2])).toBe(2.5);
  });

  test('the median does not see how slow the slowest step was', () => {
    expect(median([10, 11, 12, 13, 1e9])).toBe(12);
  });

  test('quantiles are interpolated between neighbours', () => {
    expect(quantile([0, 10, 20, 30, 40, 50, 60, 70, 80, 90, 100], 0.9)).toBe(90);
    expect(quantile([0, 10], 0.1)).toBe(1);
  });

  test('quantiles lie within the values, and grow with their share', () => {
    fc.assert(
      fc.property(times, (values) => {
        const { p10, median: middle, p90 } = distribution(values);
        expect(p10).toBeGreaterThanOrEqual(Math.min(...values));
        expect(middle).toBeGreaterThanOrEqual(p10);
        expect(p90).toBeGreaterThanOrEqual(middle);
        expect(p90).toBeLessThanOrEqual(Math.max(...values));
      }),
    );
  });

  test('the order of the values does not matter, and they stay as they are', () => {
    const values = [3, 1, 2];
    expect(median(values)).toBe(median([1, 2, 3]));
    expect(values).toEqual([3, 1, 2]);
  });

  test('nothing has no median and no mean', () => {
    expect(() => median([])).toThrow('no values');
    expect(() => mean([])).toThrow('no values');
  });

  test('the spread is half of the range, as a share of the median', () => {
    expect(spread([90, 100, 110])).toBeCloseTo(0.1);
    expect(spread([100])).toBe(0);
  });

  test('a ratio of pairs cancels a drift that both went through', () => {
    expect(pairedRatio([100, 50, 25], [50, 25, 12.5])).toBe(2);
    expect(() => pairedRatio([1, 2], [1])).toThrow('paired');
  });
});
