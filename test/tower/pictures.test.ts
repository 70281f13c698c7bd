// From uint8 pixels to what conv1 sees: mean, deviation, three channels, the network's size.

import { describe, expect, test } from 'vitest';
import type { PictureRule, Pixels } from '../../src/tower/pictures.ts';
import { chooseKernels, portableKernels } from '../../src/tower/kernels.ts';
import { preparePictures } from '../../src/tower/pictures.ts';
import { drawIntegers, relativeError, valuesOf } from './tensors.ts';

function drawPixels(count: number, size: number, channels: number): Pixels {
  const bytes = Uint8Array.from(drawIntegers('pixels', count * size * size * channels, 256));
  return { count, height: size, width: size, channels, bytes };
}

/** Bilinear enlarging of one channel [size, size] whose pixel centres lie at half coordinates; the outermost pixels go on beyond the edge. */
function enlarge(source: readonly number[], size: number, target: number): number[] {
  const at = (row: number, column: number): number => source[row * size + column]!;
  const place = (i: number): { low: number; high: number; share: number } => {
    const centre = ((i + 0.5) * size) / target - 0.5;
    const low = Math.floor(centre);
    return { low: Math.max(0, low), high: Math.min(size - 1, low + 1), share: centre - low };
  };
  const result: number[] = [];
  for (let i = 0; i < target; i++) {
    const row = place(i);
    for (let j = 0; j < target; j++) {
      const column = place(j);
      const upper = at(row.low, column.low) * (1 - column.share) + at(row.low, column.high) * column.share;
      const lower = at(row.high, column.low) * (1 - column.share) + at(row.high, column.high) * column.share;
      result.push(upper * (1 - row.share) + lower * row.share);
    }
  }
  return result;
}

describe.each([
  { kernel: 'portable', shiftPixels: portableKernels.shiftPixels },
  { kernel: 'chosen', shiftPixels: chooseKernels().shiftPixels },
])('pictures by $kernel kernels', ({ shiftPixels }) => {
  function prepare(pixels: Pixels, rule: PictureRule): { shape: readonly number[]; values: Float32Array } {
    const pictures = preparePictures(pixels, rule, shiftPixels);
    return { shape: pictures.shape, values: valuesOf(pictures) };
  }

  test('of the right size are their pixels less the mean of each channel, every byte value included', () => {
    const bytes = Uint8Array.from({ length: 2 * 16 * 16 * 3 }, (_, i) => i % 256);
    const mean = [10, 100.5, 255];
    const { shape, values } = prepare(
      { count: 2, height: 16, width: 16, channels: 3, bytes },
      { size: 16, padding: 0, mean, deviation: 1 },
    );
    expect(shape).toEqual([2, 16, 16, 3]);
    expect(values).toEqual(Float32Array.from(bytes, (byte, i) => byte - mean[i % 3]!)); // All exact in float32.
  });

  test('are divided by the deviation after the mean is subtracted', () => {
    const pixels = drawPixels(1, 8, 3);
    const mean = [120, 130, 140];
    const { values } = prepare(pixels, { size: 8, padding: 0, mean, deviation: 61 });
    const expected = Float32Array.from(pixels.bytes, (byte, i) => (byte - mean[i % 3]!) / 61);
    expect(relativeError(values, expected)).toBeLessThan(2e-7); // A product with the rounded 1 / 61.
  });

  test.each([
    { size: 8, pictures: 'of the right size' },
    { size: 12, pictures: 'that are enlarged' },
  ])('$pictures get zeros below and on the right, and nothing else changes', ({ size }) => {
    const pixels = drawPixels(2, 8, 3);
    const rule = { size, mean: [120, 130, 140], deviation: 2 };
    const plain = prepare(pixels, { ...rule, padding: 0 });
    const padded = prepare(pixels, { ...rule, padding: 3 });
    expect(padded.shape).toEqual([2, size + 3, size + 3, 3]);
    const expected = new Float32Array(padded.values.length);
    for (let row = 0; row < 2 * size; row++) {
      const picture = Math.floor(row / size);
      const line = plain.values.subarray(row * size * 3, (row + 1) * size * 3);
      expected.set(line, (picture * (size + 3) + (row % size)) * (size + 3) * 3);
    }
    expect(padded.values).toEqual(expected);
  });

  test.each([
    { size: 8, pictures: 'of the right size' },
    { size: 12, pictures: 'that are enlarged' },
  ])('$pictures are shifted by the colour of each, before the division, and their padding is not', ({ size }) => {
    const pixels = drawPixels(2, 8, 3);
    const colour = Float32Array.of(1.5, -20, 3, 0, 7.25, -0.5);
    const rule = { size, padding: 2, mean: [120.5, 130, 140], deviation: 2 };
    const plain = prepare(pixels, rule);
    const shifted = prepare({ ...pixels, colour }, rule);
    const expected = plain.values.map((value, i) => {
      const [channel, column, row] = [i % 3, Math.floor(i / 3) % (size + 2), Math.floor(i / 3 / (size + 2)) % (size + 2)];
      const picture = Math.floor(i / 3 / (size + 2) ** 2);
      return column < size && row < size ? value + colour[3 * picture + channel]! / 2 : value;
    });
    // A rounding or two of values up to 140 / 2; enlarging adds those of its weights.
    expect(relativeError(shifted.values, expected)).toBeLessThan(1e-6);
  });

  test('are given as bgr where the network wants it: mean and colour still belong to their channel', () => {
    const pixels = { ...drawPixels(2, 8, 3), colour: Float32Array.of(1, 2, 3, 4, 5, 6) };
    const rule = { size: 8, padding: 1, mean: [120, 130, 140], deviation: 1 };
    const rgb = prepare(pixels, rule).values;
    const bgr = prepare(pixels, { ...rule, channelOrder: 'bgr' }).values;
    expect(bgr).toEqual(rgb.map((_, i) => rgb[i - (i % 3) + (2 - (i % 3))]!));
  });

  test('in grey are the same in either order, and whatever the colour', () => {
    const pixels = drawPixels(1, 8, 1);
    const rule = { size: 8, padding: 0, mean: [99], deviation: 1 };
    expect(prepare({ ...pixels, colour: Float32Array.of(1, 2, 3) }, { ...rule, channelOrder: 'bgr' })).toEqual(
      prepare(pixels, rule),
    );
  });

  test('in grey become three equal channels', () => {
    const pixels = drawPixels(2, 8, 1);
    const { shape, values } = prepare(pixels, { size: 8, padding: 0, mean: [99], deviation: 1 });
    expect(shape).toEqual([2, 8, 8, 3]);
    expect(values).toEqual(Float32Array.from({ length: values.length }, (_, i) => pixels.bytes[Math.floor(i / 3)]! - 99));
  });

  test('in grey of 28x28 are enlarged to 51x51 as a plain bilinear half-pixel resize does', () => {
    const pixels = drawPixels(2, 28, 1);
    const { shape, values } = prepare(pixels, { size: 51, padding: 0, mean: [72.5], deviation: 90 });
    expect(shape).toEqual([2, 51, 51, 3]);
    const expected = [0, 1].flatMap((picture) => {
      const centred = [...pixels.bytes.subarray(picture * 784, (picture + 1) * 784)].map((byte) => (byte - 72.5) / 90);
      return enlarge(centred, 28, 51).flatMap((value) => [value, value, value]);
    });
    // Weights of the four neighbours are float32 coordinates up to 28: rounded to 2^-20.
    expect(relativeError(values, expected)).toBeLessThan(3e-6);
  });

  test('in colour are enlarged channel by channel', () => {
    const pixels = drawPixels(1, 5, 3);
    const { values } = prepare(pixels, { size: 12, padding: 0, mean: [0, 0, 0], deviation: 1 });
    for (const channel of [0, 1, 2]) {
      const source = [...pixels.bytes].filter((_, i) => i % 3 === channel);
      const actual = values.filter((_, i) => i % 3 === channel);
      expect(relativeError(actual, enlarge(source, 5, 12))).toBeLessThan(1e-6); // Coordinates up to 5: rounded to 2^-22.
    }
  });
});
