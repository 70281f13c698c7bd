// Every draw is a pure function of its key: known answers, uniform and normal statistics, nothing shared between keys.

import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import {
  randomBelow,
  randomKey,
  randomNormal,
  randomPermutation,
  randomUint32,
  randomUniform,
  threefry2x32,
} from '../../src/spec/random.ts';
import type { RandomPurpose } from '../../src/spec/random.ts';

test.each([
  { key: [0, 0], counter: [0, 0], words: [0x6b200159, 0x99ba4efe] },
  { key: [0xffffffff, 0xffffffff], counter: [0xffffffff, 0xffffffff], words: [0x1cb996fc, 0xbb002be7] },
  { key: [0x13198a2e, 0x03707344], counter: [0x243f6a88, 0x85a308d3], words: [0xc4923a9c, 0x483df7a0] },
] as const)("Threefry-2x32-20 gives its authors' known answer for key $key, counter $counter", ({ key, counter, words }) => {
  expect(threefry2x32(key, counter)).toEqual(words);
});

const purposes = ['order', 'crop', 'flip', 'colour', 'dropout', 'init', 'synthetic'] as const satisfies readonly RandomPurpose[];

describe('keys', () => {
  const base = randomKey(1, 'crop', 'picture', 3);

  test('are equal for equal parts', () => {
    expect(randomKey(1, 'crop', 'picture', 3)).toEqual(base);
  });

  test('differ between purposes', () => {
    expect(new Set(purposes.map((purpose) => randomKey(1, purpose).join())).size).toBe(purposes.length);
  });

  test.each([
    { part: 'seed', other: randomKey(2, 'crop', 'picture', 3) },
    { part: 'high half of the seed', other: randomKey(1 + 2 ** 32, 'crop', 'picture', 3) },
    { part: 'name', other: randomKey(1, 'crop', 'picturf', 3) },
    { part: 'epoch', other: randomKey(1, 'crop', 'picture', 4) },
    { part: 'high half of the epoch', other: randomKey(1, 'crop', 'picture', 3 + 2 ** 32) },
  ])('differ with the $part, in both words', ({ other }) => {
    expect(other[0]).not.toBe(base[0]);
    expect(other[1]).not.toBe(base[1]);
  });

  test('never meet over random seeds, names and epochs', () => {
    const parts = fc.tuple(fc.maxSafeNat(), fc.constantFrom(...purposes), fc.string({ maxLength: 12 }), fc.nat());
    fc.assert(
      fc.property(parts, parts, (a, b) => {
        fc.pre(a.join() !== b.join());
        expect(randomKey(...a)).not.toEqual(randomKey(...b));
      }),
      { numRuns: 1000 },
    );
  });
});

describe('draws', () => {
  const key = randomKey(1, 'synthetic', 'draws');
  const count = 20_000;
  const indices = Array.from({ length: count }, (_, i) => i);
  const mean = (values: readonly number[]): number => values.reduce((sum, value) => sum + value, 0) / values.length;

  test('are unsigned 32-bit words, one for each index, beyond 2^32 too', () => {
    const words = [...indices, 2 ** 32, 2 ** 32 + 1, 2 ** 40].map((index) => randomUint32(key, index));
    expect(words.every((word) => Number.isInteger(word) && word >= 0 && word < 2 ** 32)).toBe(true);
    expect(randomUint32(key, 2 ** 32)).not.toBe(randomUint32(key, 0));
    // Among 20,000 draws of 32 bits one pair in twenty runs coincides; two would be a fault.
    expect(new Set(words).size).toBeGreaterThan(words.length - 2);
  });

  test('are uniform in [0, 1), every bit included', () => {
    const values = indices.map((index) => randomUniform(key, index));
    expect(values.every((value) => value >= 0 && value < 1)).toBe(true);
    // Four standard errors: of a mean 1 / sqrt(12 n), of a share of halves 0.5 / sqrt(n).
    expect(Math.abs(mean(values) - 0.5)).toBeLessThan(4 / Math.sqrt(12 * count));
    for (let bit = 0; bit < 32; bit++) {
      const share = mean(indices.map((index) => (randomUint32(key, index) >>> bit) & 1));
      expect(Math.abs(share - 0.5), `bit ${bit}`).toBeLessThan(2 / Math.sqrt(count));
    }
  });

  test('below a bound reach every number below it and none beyond, equally often', () => {
    const counts = new Array<number>(7).fill(0);
    for (const index of indices) counts[randomBelow(key, index, 7)]! += 1;
    expect(counts.length).toBe(7);
    // Four standard deviations of a count of n / 7.
    for (const found of counts) expect(Math.abs(found - count / 7)).toBeLessThan(4 * Math.sqrt((count * 6) / 49));
  });

  test('of the normal distribution have its mean, deviation and kurtosis', () => {
    const values = indices.map((index) => randomNormal(key, index));
    // Four standard errors of the first, second and fourth moment: 1, sqrt(2) and sqrt(96) over sqrt(n).
    expect(Math.abs(mean(values))).toBeLessThan(4 / Math.sqrt(count));
    expect(Math.abs(mean(values.map((value) => value ** 2)) - 1)).toBeLessThan((4 * Math.SQRT2) / Math.sqrt(count));
    expect(Math.abs(mean(values.map((value) => value ** 4)) - 3)).toBeLessThan((4 * Math.sqrt(96)) / Math.sqrt(count));
  });
});

describe('a permutation', () => {
  test('holds every number once', () => {
    fc.assert(
      fc.property(fc.nat(), fc.integer({ min: 0, max: 300 }), (seed, count) => {
        const order = randomPermutation(randomKey(seed, 'order'), count);
        expect([...order].sort((a, b) => a - b)).toEqual(Array.from({ length: count }, (_, i) => i));
      }),
    );
  });

  test('is the same for the same key, and another for the next epoch', () => {
    const order = (epoch: number): Uint32Array => randomPermutation(randomKey(1, 'order', '', epoch), 100);
    expect(order(0)).toEqual(order(0));
    expect(order(1)).not.toEqual(order(0));
  });

  test('puts every number in every place, equally often', () => {
    const runs = 6000;
    const counts = new Map<string, number>();
    for (let seed = 0; seed < runs; seed++) {
      const order = randomPermutation(randomKey(seed, 'order'), 3).join();
      counts.set(order, (counts.get(order) ?? 0) + 1);
    }
    expect(counts.size).toBe(6);
    // Four standard deviations of a count of runs / 6.
    for (const found of counts.values()) expect(Math.abs(found - runs / 6)).toBeLessThan(4 * Math.sqrt((runs * 5) / 36));
  });
});
