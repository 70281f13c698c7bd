// PCA colour: components of a known covariance, and offsets that have it.

import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { colourOffsets } from '../../src/data/colour.ts';
import { principalComponents } from '../../src/data/principalComponents.ts';
import { PixelSums } from '../../src/data/statistics.ts';

describe('principal components', () => {
  test('of any covariance give it back, are orthogonal and of unit length', () => {
    const entries = fc.array(fc.double({ min: -1, max: 1, noNaN: true }), { minLength: 9, maxLength: 9 });
    fc.assert(
      fc.property(entries, (m) => {
        // M M^T is a covariance whatever M is.
        const covariance = [0, 1, 2].map((i) =>
          [0, 1, 2].map((j) => [0, 1, 2].reduce((sum, k) => sum + m[3 * i + k]! * m[3 * j + k]!, 0)),
        );
        const components = principalComponents(covariance);
        for (const [i, j] of [0, 1, 2].flatMap((a) => [0, 1, 2].map((b) => [a, b] as const))) {
          const rebuilt = components.reduce((sum, { variance, direction }) => sum + variance * direction[i]! * direction[j]!, 0);
          expect(rebuilt).toBeCloseTo(covariance[i]![j]!, 10);
          const product = components[i]!.direction.reduce((sum, part, k) => sum + part * components[j]!.direction[k]!, 0);
          expect(product).toBeCloseTo(i === j ? 1 : 0, 10);
        }
        expect(components.map(({ variance }) => variance)).toEqual(
          components.map(({ variance }) => variance).sort((a, b) => b - a),
        );
      }),
    );
  });
});

test('offsets are drawn by seed, epoch and index, and vary along the components as much as lambda times sd', () => {
  // Grey pixels between 0 and 255: one component, (1,1,1)/sqrt(3), whose variance is three times that of a channel.
  const covariance = [0, 1, 2].map(() => [3600, 3600, 3600]);
  const draw = colourOffsets(covariance, { seed: 5, sd: 0.1 });
  const indices = Uint32Array.from({ length: 20_000 }, (_, i) => i);
  const offsets = draw(3, indices);
  expect(draw(3, Uint32Array.of(7))).toEqual(offsets.slice(21, 24));
  expect(draw(4, Uint32Array.of(7))).not.toEqual(offsets.slice(21, 24));
  for (let n = 0; n < 50; n++) {
    expect(offsets[3 * n + 1]).toBeCloseTo(offsets[3 * n]!, 4);
    expect(offsets[3 * n + 2]).toBeCloseTo(offsets[3 * n]!, 4);
  }
  const deviation = Math.sqrt(indices.reduce((sum, n) => sum + offsets[3 * n]! ** 2, 0) / indices.length);
  const lambda = (3 * 3600) / 255 ** 2;
  // The standard error of a deviation over 20,000 draws is half a percent.
  expect(deviation / ((255 * 0.1 * lambda) / Math.sqrt(3))).toBeCloseTo(1, 1);
});

test('statistics of colours are those of all pixels at once, in whatever pieces they come', () => {
  const pixels = Uint8Array.from({ length: 300 }, (_, i) => (i * i * 31) % 256);
  const [whole, pieces] = [new PixelSums(3), new PixelSums(3)];
  whole.add(pixels);
  for (const start of [150, 0, 60]) pieces.add(pixels.subarray(start, start === 0 ? 60 : start === 60 ? 150 : 300));
  expect(pieces.statistics).toEqual(whole.statistics);
  const red = pixels.filter((_, i) => i % 3 === 0);
  const green = pixels.filter((_, i) => i % 3 === 1);
  const mean = (values: Uint8Array): number => values.reduce((sum, value) => sum + value, 0) / values.length;
  expect(whole.statistics.mean[0]).toBeCloseTo(mean(red), 10);
  const covariance = red.reduce((sum, value, i) => sum + (value - mean(red)) * (green[i]! - mean(green)), 0) / red.length;
  expect(whole.statistics.covariance[0]![1]).toBeCloseTo(covariance, 8);
});
