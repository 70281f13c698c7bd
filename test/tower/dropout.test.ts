// Dropout masks are pure functions of seed, layer, tower and step, and drop the share that was asked for.

import { describe, expect, test } from 'vitest';
import type { TowerIndex } from '../../src/spec/layout.ts';
import { keyedMasks } from '../../src/tower/dropout.ts';
import { valuesOf } from './tensors.ts';

const shape = [64, 512] as const;

interface Draw {
  readonly seed?: number;
  readonly tower?: TowerIndex;
  readonly rate?: number;
  readonly layer?: string;
  readonly step?: number;
}

function draw({ seed = 1, tower = 0, rate = 0.5, layer = 'fc6', step = 0 }: Draw = {}): Float32Array {
  return valuesOf(keyedMasks(seed, tower, rate)({ layer, step, shape }));
}

function shareOf(mask: Float32Array, isCounted: (kept: number, at: number) => boolean): number {
  return mask.filter(isCounted).length / mask.length;
}

/** Four standard deviations of a share among 64 * 512 draws are at most 4 * 0.5 / sqrt(32768) = 0.011. */
const sampling = 0.011;

describe('a dropout mask', () => {
  test.each([0.5, 0.25, 0.9])('at rate %d holds that share of zeros, and ones otherwise', (rate) => {
    const mask = draw({ rate });
    expect(new Set(mask)).toEqual(new Set([0, 1]));
    expect(Math.abs(shareOf(mask, (kept) => kept === 0) - rate)).toBeLessThan(sampling);
  });

  test('is the same for the same seed, layer, tower and step', () => {
    expect(draw({ seed: 7, layer: 'fc7', tower: 1, step: 12 })).toEqual(draw({ seed: 7, layer: 'fc7', tower: 1, step: 12 }));
  });

  test('does not depend on what was drawn before', () => {
    const masks = keyedMasks(1, 0, 0.5);
    const late = valuesOf(masks({ layer: 'fc6', step: 5, shape }));
    for (let step = 0; step < 5; step++) masks({ layer: 'fc6', step, shape }).dispose();
    expect(valuesOf(masks({ layer: 'fc6', step: 5, shape }))).toEqual(late);
  });

  test.each<{ other: string; change: Draw }>([
    { other: 'seed', change: { seed: 2 } },
    { other: 'high half of the seed', change: { seed: 1 + 2 ** 32 } },
    { other: 'layer', change: { layer: 'fc7' } },
    { other: 'tower', change: { tower: 1 } },
    { other: 'step', change: { step: 1 } },
  ])('shares no more than chance with that of another $other', ({ change }) => {
    const [one, other] = [draw(), draw(change)];
    expect(Math.abs(shareOf(one, (kept, at) => kept === other[at]) - 0.5)).toBeLessThan(sampling);
  });

  test.each([
    { first: 0, count: 20 },
    { first: 20, count: 24 },
    { first: 63, count: 1 },
  ])("of $count rows from row $first is that part of the whole batch's", ({ first, count }) => {
    const shard = { first, count, of: shape[0] };
    const rows = valuesOf(keyedMasks(1, 0, 0.5)({ layer: 'fc6', step: 3, shape: [count, shape[1]], shard }));
    expect(rows).toEqual(draw({ step: 3 }).slice(first * shape[1], (first + count) * shape[1]));
  });

  test('differs from picture to picture', () => {
    const mask = draw();
    const [first, second] = [mask.subarray(0, 512), mask.subarray(512, 1024)];
    expect(first).not.toEqual(second);
  });
});
